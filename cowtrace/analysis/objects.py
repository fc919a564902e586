"""Sum copies by what was written: cause, type and phase; and what would avoid them, at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cowtrace.model import DetailRow, Phase, WriteCause

_COLLECTING = (Phase.COLLECTING, Phase.COLLECTING_0, Phase.COLLECTING_1, Phase.COLLECTING_2)
_RUNNING = (Phase.RUNNING, None)
_NUMBERS = ("int", "float", "complex")  # an array holds them without objects
# No records of the program: most are its names, constants and code.
_NO_RECORDS = {
    *("str", "bytes", "bool", "NoneType", "code", "function", "type", "module", "cell", "property"),
    *("abc.ABCMeta", "_abc._abc_data", "weakref.ReferenceType", "builtin_function_or_method"),
    *("method_descriptor", "wrapper_descriptor", "getset_descriptor", "member_descriptor"),
    *("staticmethod", "classmethod", "classmethod_descriptor"),
}
# Of which CPython 3.12 and later count no references ("immortal objects", PEP 683).
_IMMORTAL = ("NoneType", "bool", "ellipsis", "NotImplementedType")
_FREE = (WriteCause.ALLOCATOR, WriteCause.ARENA)
_MOST_NAMES = 2  # of types, in the text of a remedy
_LEAST_SHARE = 0.01  # of all bytes, for a remedy to be worth a line


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """Copies of one cause, type and phase."""

    cause: WriteCause
    type: str | None  # hostile; None: no object
    phase: Phase | None  # None: unknown
    faults: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change of the program, and how many of the copied bytes it would avoid, at most.

    At most: the same page may be copied by a later write, for another cause.
    """

    change: str
    of: str  # which copies it avoids
    bytes: int


def object_rows(details: Iterable[DetailRow]) -> tuple[ObjectRow, ...]:
    """The largest first; rows of copies whose memory was not looked at are left out."""
    faults: Counter[tuple[WriteCause, str | None, Phase | None]] = Counter()
    copied: Counter[tuple[WriteCause, str | None, Phase | None]] = Counter()
    for row in details:
        if row.written:
            key = row.written.cause, row.written.type, row.written.phase
            faults[key] += row.faults
            copied[key] += row.bytes
    rows = (ObjectRow(*key, faults[key], copied[key]) for key in faults)
    return tuple(sorted(rows, key=_order))


def known_bytes(rows: Iterable[ObjectRow]) -> int:
    """Of the copies that have a cause."""
    return sum(row.bytes for row in rows if row.cause is not WriteCause.UNKNOWN)


def remedies(rows: Iterable[ObjectRow]) -> tuple[Remedy, ...]:
    """The changes that would avoid most, the best first. Those of little effect are left out."""
    rows = tuple(rows)
    links = _sum(rows, lambda row: row.cause is WriteCause.GC_HEADER and row.phase in _COLLECTING)
    collecting = _sum(rows, lambda row: row.phase in _COLLECTING)
    ending = _sum(rows, lambda row: row.phase is Phase.SHUTTING_DOWN)
    found = [
        Remedy("gc.freeze() before the fork", "GC headers that a collection writes", links),
        Remedy("os._exit() in workers", "all that shutting down writes", ending),
    ]
    if collecting > links:
        found.append(Remedy("gc.disable() in children", "all that a collection writes", collecting))
    # As the documentation of gc.freeze() has it: memory that is freed before the fork is shared,
    # and children copy it when they fill it.
    free = _sum(rows, lambda row: row.cause in _FREE and row.phase in _RUNNING)
    found.append(Remedy("gc.disable() until the fork", "free memory that children fill", free))
    counts = [row for row in rows if _is_count(row)]
    immortal = _sum(counts, lambda row: row.type in _IMMORTAL)
    found.append(Remedy("CPython 3.12 or later", "counts of None and bool", immortal))
    numbers = _sum(counts, lambda row: row.type in _NUMBERS)
    found.append(Remedy("arrays (array, numpy) of numbers", "counts of numbers", numbers))
    others: Counter[str] = Counter()
    for row in counts:
        if row.type and row.type not in {*_NUMBERS, *_NO_RECORDS}:
            others[row.type] += row.bytes
    # A record holds others: all of them go together.
    named = ", ".join(name for name, _ in others.most_common(_MOST_NAMES))
    if len(others) > _MOST_NAMES:
        named += f", {len(others) - _MOST_NAMES:,} more"
    copied = others.total()
    found.append(Remedy("records in arrays or a file", f"counts of {named}", copied))
    least = _LEAST_SHARE * sum(row.bytes for row in rows)
    worth = [each for each in found if each.bytes and each.bytes >= least]
    return tuple(sorted(worth, key=lambda each: -each.bytes))


def _is_count(row: ObjectRow) -> bool:
    """A reference count that neither a collection nor the end of the interpreter writes."""
    return row.cause is WriteCause.REFERENCE_COUNT and row.phase in _RUNNING


def _sum(rows: Iterable[ObjectRow], of: Callable[[ObjectRow], bool]) -> int:
    return sum(row.bytes for row in rows if of(row))


def _order(row: ObjectRow) -> tuple[object, ...]:
    return -row.bytes, row.cause.value, row.type or "", row.phase.value if row.phase else ""
