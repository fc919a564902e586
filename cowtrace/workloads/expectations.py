"""Build the counts expected of each process of a workload."""

from __future__ import annotations

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads.outcome import KINDS, Expected, ExpectedRow
from cowtrace.workloads.region import PAGE_BYTES


def parent(*rows: ExpectedRow, **counts: int | None) -> Expected:
    """What the parent must count: by rows, by counts of whole kinds, or both."""
    return expected("parent", *rows, **counts)


def child(*rows: ExpectedRow, **counts: int | None) -> Expected:
    """What each child must count."""
    return expected("child", *rows, **counts)


def expected(role: str, *rows: ExpectedRow, **counts: int | None) -> Expected:
    """What the process of a role must count. A kind that only occurs in `rows` gets their sum."""
    for kind in KINDS:
        those = [row.faults for row in rows if row.kind is kind]
        if those and kind.name.lower() not in counts:
            unknown = None in those
            counts[kind.name.lower()] = None if unknown else sum(n or 0 for n in those)
    # Field by field: a mapping could also name the fields that are not counts.
    by_kind = [counts.pop(kind.name.lower(), 0) for kind in KINDS]
    if counts:
        raise TypeError(f"no such kinds: {', '.join(counts)}")
    return Expected(*by_kind, role=role, rows=rows)


def copied(
    faults: int,
    source: Source = Source.ANON,
    origin: Origin = Origin.USER,
    *,
    page_bytes: int = PAGE_BYTES,
    actor: str = "",
) -> ExpectedRow:
    """A row of pages that were each copied whole."""
    return ExpectedRow(FaultKind.COPIED, source, origin, faults, faults * page_bytes, actor)


def reused(faults: int, source: Source = Source.ANON) -> ExpectedRow:
    """A row of faults that only re-marked a page writable."""
    return ExpectedRow(FaultKind.REUSED, source, Origin.USER, faults, 0)
