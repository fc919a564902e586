"""Check each value of a recording: no file is trusted.

Raise ValueError or KeyError for a value that cowtrace would not have written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cowtrace.model import FaultKind, MappingType, Origin, Source

Rows = Callable[[str], list[tuple[Any, ...]]]  # a query -> its rows

KINDS = {kind.label: kind for kind in FaultKind}
SOURCES = {source.name.lower(): source for source in Source}
ORIGINS = {origin.name.lower(): origin for origin in Origin}
TYPES = {kind.name.lower(): kind for kind in MappingType}
_MOST = 1 << 62  # of any count, bytes or ns: two of them add up to no more than SQLite holds


def number(value: object, *, least: int = 0, most: int = _MOST) -> int:
    """A number that cowtrace could have written."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:40]!r} where a number should be")
    return value


def change(value: object) -> int:
    """A difference, below 0 where the tracepoint plan takes back what it counted too early."""
    return number(value, least=-_MOST)


def or_none(value: object, *, most: int = _MOST) -> int | None:
    """A number, of a column that can be NULL."""
    return None if value is None else number(value, most=most)


def word(signed: int) -> int:
    """An unsigned 64-bit word, which SQLite keeps with a sign."""
    return int(signed) & 0xFFFF_FFFF_FFFF_FFFF
