"""C6: pages that only their writer still holds. The claim leaves their way to the kernel.

Re-marked or copied once more: either is a finding, as long as the trace and the oracles agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from cowtrace.model import FaultKind
from cowtrace.workloads.compare import Row
from cowtrace.workloads.outcome import Evidence

CLAIM = "C6"
_KINDS = (FaultKind.COPIED, FaultKind.REUSED)
_COUNTING = ("pagemap", "taskstats", "rusage")  # oracles that count by kind of fault


def opened(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The same, with nothing foretold of how pages go that only their writer still holds."""
    last = {row.pid for row in rows if row.kind is FaultKind.REUSED and row.expected}
    return tuple(
        replace(row, expected=None) if row.pid in last and row.kind in _KINDS else row
        for row in rows
    )


def left_open(evidence: Iterable[Evidence], rows: Iterable[Row]) -> tuple[Evidence, ...]:
    """The same, where an oracle that counted these pages contradicts nothing."""
    roles = {row.role for row in rows if _is_open(row)}
    return tuple(replace(one, ok=None) if _counted(one, roles) else one for one in evidence)


def wrong_sums(foretold: Iterable[Row]) -> Iterator[str]:
    """Re-marked or copied, each page is written once."""
    by_role: dict[str, list[Row]] = {}
    for row in foretold:
        if row.kind in _KINDS:
            by_role.setdefault(row.role, []).append(row)
    for role, those in by_role.items():
        expected = sum(row.expected or 0 for row in those)
        traced = sum(row.traced or 0 for row in those)
        if traced != expected:
            yield f"{role} copied or reused: {expected:,} expected, {traced:,} traced"


def finding(rows: Iterable[Row]) -> str:
    """Of the process that writes last: what became of pages that only it holds."""
    last = [row for row in rows if _is_open(row)]
    counts = {row.kind: row.traced if row.pagemap is None else row.pagemap for row in last}
    copied, reused = (counts.get(kind) or 0 for kind in _KINDS)
    total = copied + reused
    if not copied:
        return f"the other side's pages were only marked writable: {reused:,} of {total:,}"
    if not reused:
        return f"the other side's pages were copied once more: {copied:,} of {total:,}"
    return (
        f"of the other side's {total:,} pages, {reused:,} were only marked writable and "
        f"{copied:,} copied once more"
    )


def _is_open(row: Row) -> bool:
    return row.expected is None and row.kind in _KINDS


def _counted(one: Evidence, roles: Collection[str]) -> bool:
    return one.ok is False and one.oracle in _COUNTING and one.what.partition(":")[0] in roles
