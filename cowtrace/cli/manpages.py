"""Man pages out of what --help says: `python3 -m cowtrace.cli.manpages FOLDER`, to make a package.

A page for cowtrace and one for each command. click-man would make them, but looks into no group
that imports its commands late.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from cowtrace import __version__
from cowtrace.cli import COMMANDS, main


def pages() -> Iterator[tuple[str, str]]:
    """(file name, text in troff's man(7)) of each."""
    with click.Context(main, info_name="cowtrace") as context:
        yield from _pages(main, context)


def _pages(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    name = context.command_path.replace(" ", "-")
    yield f"{name}.1", "\n".join(_page(command, context, name)) + "\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None, below
            with click.Context(found, info_name=below, parent=context) as inner:
                yield from _pages(found, inner)


def _page(command: click.Command, context: click.Context, name: str) -> Iterator[str]:
    yield f'.TH "{name.upper()}" 1 "" "cowtrace {__version__}" "cowtrace"'
    yield ".SH NAME"
    words = inspect.cleandoc(command.help or "")
    summary = words.split("\n\n")[0].replace("\n", " ").rstrip(".")
    yield f"{_text(name)} \\- {_text(summary[0].lower() + summary[1:])}"
    yield ".SH SYNOPSIS"
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f".B {_text(context.command_path)}\n{_text(pieces)}"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(words)
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        yield from _commands(command, context)
    yield ".SH OPTIONS"
    yield from _options(command, context)
    yield from _epilog(command.epilog or "")
    yield ".SH SEE ALSO"
    yield ", ".join(f".BR {each} (1)" for each in _others(name)).replace(", ", " ,\n")


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        words = COMMANDS[name] if group is main else command.get_short_help_str(200)
        yield f".TP\n.B {_text(name)}\n{_text(words)}"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1]:  # arguments are in the synopsis
            yield f".TP\n.B {_text(record[0])}\n{_text(record[1])}"


def _epilog(epilog: str) -> Iterator[str]:
    """Its parts begin with a line that ends with a colon: Examples, Exit codes."""
    for part in filter(None, epilog.split("\b\n")):
        title, _, body = part.rstrip().partition("\n")
        head, _, rest = title.partition(":")
        yield f".SH {_text('EXIT STATUS' if head == 'Exit codes' else 'EXAMPLES')}"
        if rest.strip():
            yield from _paragraphs(f"{rest.strip().capitalize()}:")
        yield from _verbatim(body.split("\n"))


def _paragraphs(text: str) -> Iterator[str]:
    for at, paragraph in enumerate(text.split("\n\n")):
        if at:
            yield ".PP"
        lines = paragraph.strip("\n").split("\n")
        if lines[0].strip() == "\b":
            yield from _verbatim(lines[1:])
        else:
            yield _text(" ".join(line.strip() for line in lines))


def _verbatim(lines: list[str]) -> Iterator[str]:
    yield ".nf"
    yield from map(_text, lines)
    yield ".fi"


def _others(name: str) -> list[str]:
    if name == "cowtrace":
        return [f"cowtrace-{command}" for command in sorted(COMMANDS)]
    return ["cowtrace"]


def _text(raw: str) -> str:
    """Nothing in it is a request or an escape."""
    text = raw.replace("\\", "\\e").replace("-", "\\-").replace("\n", " ")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def write(folder: Path) -> None:
    """All of them, into a folder that is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
