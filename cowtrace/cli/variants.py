"""Read which variants of a command to try: from the command line, from remedies, from a file."""

from __future__ import annotations

import re
import shlex
import string
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.remedies import NO_REMEDIES, Remedies, parse
from cowtrace.text import printable

PLAIN = "plain"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,=-]{0,39}")  # also a file's
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    command: tuple[str, ...]
    remedies: Remedies = NO_REMEDIES


def from_command(words: Sequence[str]) -> tuple[Variant, ...]:
    """A -- B -- C: the variants A, B and C."""
    found = [
        tuple(part) for is_end, part in groupby(words, lambda word: word == "--") if not is_end
    ]
    if len(found) > len(string.ascii_uppercase):
        raise _wrong("too many commands", "put them into a file: --file FILE")
    return tuple(map(Variant, string.ascii_uppercase, found))


def from_remedies(command: Sequence[str], chosen: Sequence[str]) -> tuple[Variant, ...]:
    """The command as it is, then with each choice of remedies."""
    variants = [Variant(words, tuple(command), parse(words)) for words in dict.fromkeys(chosen)]
    return (Variant(PLAIN, tuple(command)), *variants)


def from_file(file: Path) -> tuple[Variant, ...]:
    """A TOML file: `name = "command"`, or a table with `command` and `with`.

    Raises CowtraceError.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST_BYTES).decode()
        return tuple(_variants(tomllib.loads(text)))
    except OSError as error:
        problem = error.strerror or "unreadable"
    except ValueError as error:  # also tomllib's, and those of shlex and of UTF-8
        problem = str(error)
    raise _wrong(
        f"cannot read variants from {printable(str(file))}: {printable(problem)}",
        'a line for each: plain = "./job --workers 4"',
    )


def _variants(tables: dict[str, object]) -> Iterator[Variant]:
    """Raises ValueError."""
    for name, found in tables.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"a name has letters, digits, . _ - only: {name}")
        table = found if isinstance(found, dict) else {"command": found}
        if unknown := table.keys() - {"command", "with"}:
            raise ValueError(f"{name} has an unknown key: {min(unknown)}")
        chosen = table.get("with", "")
        if not isinstance(chosen, str):
            raise ValueError(f'{name}: with is a text, as in with = "gc-freeze,os-exit"')
        yield Variant(
            name, _words(name, table.get("command")), parse(chosen) if chosen else NO_REMEDIES
        )


def _words(name: str, command: object) -> tuple[str, ...]:
    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        raise ValueError(f"{name} needs a command: a text, or a list of texts")
    return tuple(words)


def _wrong(problem: str, hint: str) -> CowtraceError:
    return CowtraceError(problem, hint=hint, exit_code=EXIT_USAGE)
