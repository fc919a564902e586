"""Sum up the rows of a comparison by role and kind: what two runs are compared by. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from cowtrace.model import FaultKind, Snapshot
from cowtrace.verify.check import Count
from cowtrace.workloads.comparison import Row
from cowtrace.workloads.outcome import total


def counts(rows: Iterable[Row], trace: Snapshot) -> tuple[Count, ...]:
    """One Count for each role and kind that occurred, was expected, or is left to the kernel."""
    alike: dict[tuple[str, FaultKind], list[Row]] = {}
    for row in rows:
        alike.setdefault((row.role, row.kind), []).append(row)
    return tuple(
        Count(
            role=role,
            kind=kind.label,
            expected=total(row.expected for row in those),
            traced=total(row.traced for row in those),
            pagemap=total(row.pagemap for row in those),
            upper_bound=any(row.upper_bound for row in those),
            **_of_traced({row.pid for row in those if row.traced is not None}, kind, trace),
        )
        for (role, kind), those in alike.items()
        if not all(row.empty and row.expected is not None for row in those)
    )


def _of_traced(pids: set[int], kind: FaultKind, trace: Snapshot) -> dict[str, tuple[str, ...]]:
    """The sources and origins of what was traced."""
    rows = [
        row
        for pid in pids
        if (process := trace.process(pid))
        for row in process.rows
        if row.kind is kind
    ]
    return {
        "sources": tuple(sorted({row.source.label for row in rows if row.source.label})),
        "origins": tuple(sorted({row.origin.name.lower() for row in rows})),
    }
