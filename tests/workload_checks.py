"""What must hold of every workload that was traced on a live kernel."""

from __future__ import annotations

from cowtrace.model import FaultKind, Snapshot
from cowtrace.workloads import Outcome
from cowtrace.workloads.compare import comparison

PRIME_PAGES = 23
MANY_PAGES = 509


def problems(outcome: Outcome, snapshot: Snapshot) -> list[str]:
    """All that is wrong, a line each: nothing of it may be."""
    compared = comparison(outcome, snapshot)
    found = [str(row) for row in compared.rows if not row.ok]
    found += [
        f"pid {process.pid}: {process.faults} faults, not the sum of its kinds"
        for process in snapshot.processes
        if process.faults != sum(process.count(kind) or 0 for kind in FaultKind)
    ]
    found += [f"pagemap hides frames of pid {p.pid}" for p in outcome.processes if not p.pagemap]
    if compared.unclassified or compared.failed or compared.lost or not outcome.data_right:
        found.append(f"incomplete or wrong data: {compared}")
    return found


def unaccounted(outcome: Outcome, snapshot: Snapshot) -> list[str]:
    """For a plan that may lose faults: counts too many, or lacks more than it says are lost."""
    compared = comparison(outcome, snapshot)
    told = [row for row in compared.rows if None not in (row.expected, row.traced)]
    lacking = [(row.expected or 0) - (row.traced or 0) for row in told]
    found = [str(row) for row, lacks in zip(told, lacking, strict=True) if lacks < 0]
    if sum(lacking) > compared.lost:
        found.append(f"{sum(lacking)} faults lack, but only {compared.lost} are said to be lost")
    return found
