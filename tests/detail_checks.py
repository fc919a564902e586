"""Check the details of a traced workload against its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cowtrace.model import COPIES, DetailRow, FaultKind, ForkGeneration, Snapshot
from cowtrace.workloads.outcome import Outcome
from cowtrace.workloads.region import REGION_START

PRIME_PAGES = 503  # with fewer, samples could be right by chance


def kinds(rows: Iterable[DetailRow]) -> Counter[tuple[int, FaultKind]]:
    """Faults by pid and kind."""
    found: Counter[tuple[int, FaultKind]] = Counter()
    for row in rows:
        found[row.pid, row.kind] += row.faults
    return found


def problems(outcome: Outcome, snapshot: Snapshot) -> list[str]:
    """Contradictions between details and counts, a line each; both come from the tracer.

    The counts themselves are compared with pagemap elsewhere.
    """
    found = []
    pids = {process.pid for process in outcome.processes}
    details = kinds(row for row in snapshot.details if row.pid in pids)
    for process in snapshot.processes:
        if process.pid not in pids:
            continue
        for kind in FaultKind:
            counted, detailed = process.count(kind) or 0, details[process.pid, kind]
            if counted != detailed:
                found.append(f"pid {process.pid}: {counted} {kind.label}, {detailed} in details")
    copied = dict.fromkeys(pids, 0)
    for row in snapshot.details:
        if row.pid in pids and row.kind in COPIES:
            copied[row.pid] += row.bytes
    for process in snapshot.processes:
        if process.pid in pids and process.copied_bytes != copied[process.pid]:
            found.append(f"pid {process.pid}: {copied[process.pid]} bytes copied in details")
    return found


def generation(outcome: Outcome, snapshot: Snapshot) -> ForkGeneration:
    """The one fork of a workload that forks once."""
    pids = {process.pid for process in outcome.processes}
    (only,) = (g for g in snapshot.generations if {g.parent, g.child} <= pids)
    return only


def unmapped(outcome: Outcome, snapshot: Snapshot) -> list[str]:
    """Copies whose mapping is not the workload's region, a line each."""
    pids = {process.pid for process in outcome.processes}
    return [
        f"{row.faults} at {row.mapping}"
        for row in snapshot.details
        if row.pid in pids
        and row.faults
        and not (
            row.mapping
            and row.mapping.start == REGION_START
            and row.mapping.end - row.mapping.start == outcome.pages * outcome.page_bytes
        )
    ]
