"""Check each value of a recording: no file is trusted.

Raise ValueError or KeyError for a value that cowtrace would not have written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, TypeVar

from cowtrace.model import (
    Cause,
    Ending,
    FaultKind,
    MappingType,
    Origin,
    Phase,
    Source,
    Stack,
    StackFrame,
    WriteCause,
)
from cowtrace.recording.tables import word_of

Rows = Callable[[str], list[tuple[Any, ...]]]  # a query -> its rows
Check = Callable[[Any], Any]  # of one column: a stored value -> the value in the model

_Member = TypeVar("_Member", bound=Enum)
_MOST_FRAMES = 256  # perf_event_max_stack and cowtrace's unwinder: 127 and 128
_MOST = 1 << 62  # of any count, bytes or ns: the sum of two fits into SQLite's integers


def _word(of: type[_Member]) -> Callable[[object], _Member]:
    by_word: dict[object, _Member] = {word_of(member): member for member in of}
    return by_word.__getitem__


kind, source, origin = _word(FaultKind), _word(Source), _word(Origin)
mapping_type, ending, cause = _word(MappingType), _word(Ending), _word(Cause)
write_cause, phase = _word(WriteCause), _word(Phase)


def row(values: Iterable[Any], *checks: Check) -> Iterable[Any]:
    """Check each value of a row by the check of its column."""
    return (check(value) for check, value in zip(checks, values, strict=True))


def number(value: object, *, least: int = 0, most: int = _MOST) -> int:
    """A number that cowtrace could have written."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:40]!r} where a number should be")
    return value


def change(value: object) -> int:
    """A difference: below 0 where the tracepoint plan takes back what it counted too early."""
    return number(value, least=-_MOST)


def or_null(check: Check) -> Check:
    """A column that can be NULL."""
    return lambda value: None if value is None else check(value)


def unsigned(signed: object) -> int:
    """An unsigned 64-bit word, which SQLite keeps with a sign."""
    return number(signed, least=-(1 << 63), most=(1 << 63) - 1) & 0xFFFF_FFFF_FFFF_FFFF


def text(value: object) -> str:
    """Text as it is stored; it may be hostile to what shows it."""
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]!r} where text should be")
    return value


def frames(of: dict[int, StackFrame]) -> Check:
    """Ids of these frames as a JSON array; no parser of JSON, which could be deep, reads them."""

    def stack(value: object) -> Stack:
        ids = text(value).removeprefix("[").removesuffix("]").split(", ")
        if len(ids) > _MOST_FRAMES:
            raise ValueError("a stack of more frames than cowtrace records")
        return tuple(of[int(each)] for each in ids)

    return stack
