"""Claim C6: pages that only their writer still holds may be re-marked, or copied once more.

Either outcome is a finding, as long as the trace and the oracles agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from cowtrace.model import FaultKind
from cowtrace.workloads.comparison import Row
from cowtrace.workloads.outcome import Evidence

CLAIM = "C6"
_KINDS = (FaultKind.COPIED, FaultKind.REUSED)
_COUNTING = ("pagemap", "taskstats", "rusage")  # oracles that count by kind of fault


def with_either_outcome(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows, without an expectation for pages that only their writer still holds."""
    last = {row.pid for row in rows if row.kind is FaultKind.REUSED and row.expected}
    return tuple(
        replace(row, expected=None) if row.pid in last and row.kind in _KINDS else row
        for row in rows
    )


def without_contradiction(
    evidence: Iterable[Evidence], rows: Iterable[Row]
) -> tuple[Evidence, ...]:
    """The evidence, where a count of these pages contradicts nothing."""
    roles = {row.role for row in rows if _either_outcome(row)}
    return tuple(
        replace(one, ok=None)
        if one.ok is False and one.oracle in _COUNTING and one.what.partition(":")[0] in roles
        else one
        for one in evidence
    )


def wrong_sums(expected_rows: Iterable[Row]) -> Iterator[str]:
    """Errors of roles whose copied and re-marked pages do not add up: each page is written once."""
    by_role: dict[str, list[Row]] = {}
    for row in expected_rows:
        if row.kind in _KINDS:
            by_role.setdefault(row.role, []).append(row)
    for role, those in by_role.items():
        expected = sum(row.expected or 0 for row in those)
        traced = sum(row.traced or 0 for row in those)
        if traced != expected:
            yield f"{role} copied or reused: {expected:,} expected, {traced:,} traced"


def finding(rows: Iterable[Row]) -> str:
    """How the kernel treated the pages that only their last writer holds."""
    last = [row for row in rows if _either_outcome(row)]
    counts = {row.kind: row.traced if row.pagemap is None else row.pagemap for row in last}
    copied, reused = (counts.get(kind) or 0 for kind in _KINDS)
    total = copied + reused
    if not copied:
        return f"the last writer's pages were only re-marked: {reused:,} of {total:,}"
    if not reused:
        return f"the last writer's pages were copied once more: {copied:,} of {total:,}"
    return (
        f"of the last writer's {total:,} pages, {reused:,} were only re-marked and "
        f"{copied:,} copied once more"
    )


def _either_outcome(row: Row) -> bool:
    return row.expected is None and row.kind in _KINDS
