"""An outcome against a snapshot: expected, traced and pagemap side by side. No I/O."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cowtrace.model import FaultKind, Snapshot
from cowtrace.workloads.counts import KINDS, Outcome
from cowtrace.workloads.workload import find


@dataclass(frozen=True, slots=True)
class Row:
    """Faults of one kind in one process. None: foretold, seen or told by nobody, never 0."""

    role: str
    pid: int
    kind: FaultKind
    expected: int | None
    traced: int | None  # None where the plan cannot see the kind
    pagemap: int | None  # None where frame numbers are hidden, or cannot tell
    upper_bound: bool = False  # the plan takes lost races for faults of other kinds

    @property
    def ok(self) -> bool:
        """All of them that are known agree; an upper bound is not below the others."""
        exact = {n for n in (self.expected, self.pagemap) if n is not None}
        if self.traced is None:
            return len(exact) <= 1
        if self.upper_bound:
            return len(exact) <= 1 and self.traced >= max(exact, default=0)
        return len(exact | {self.traced}) <= 1

    @property
    def told(self) -> bool:
        """At least one of the two that look told something."""
        return self.traced is not None or self.pagemap is not None

    @property
    def empty(self) -> bool:
        """Nothing happened, and nothing should have."""
        return not (self.expected or self.traced or self.pagemap)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows of a workload, and whether the trace was complete while it ran."""

    workload: str
    pages: int
    plan: str
    kernel: str
    rows: tuple[Row, ...]
    unclassified: int  # of the workload's processes
    failed: int  # likewise
    lost: int  # of the whole trace
    data_right: bool

    @property
    def ok(self) -> bool:
        """The tracer, the frame numbers and the data read back all say what was foretold."""
        complete = not (self.unclassified or self.failed or self.lost)
        return complete and self.data_right and all(row.ok for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every row and field, kinds by their labels."""
        rows = [
            {**dataclasses.asdict(row), "kind": row.kind.label, "ok": row.ok} for row in self.rows
        ]
        return {**dataclasses.asdict(self), "rows": rows, "ok": self.ok}


def comparison(outcome: Outcome, snapshot: Snapshot) -> Comparison:
    """Compare, process by process and kind by kind.

    The snapshot must come from a tracer that was attached, for the workloads' region, before the
    workload began.
    """
    bound = find(outcome.name).races and FaultKind.UNCHANGED in snapshot.unseen
    rows = tuple(
        Row(
            process.role,
            process.pid,
            kind,
            process.expected.of(kind),
            traced(snapshot, process.pid, kind),
            process.pagemap.of(kind) if process.pagemap else None,
            bound,
        )
        for process in outcome.processes
        for kind in KINDS
    )

    def total(kind: FaultKind) -> int:
        return sum(traced(snapshot, process.pid, kind) or 0 for process in outcome.processes)

    return Comparison(
        outcome.name,
        outcome.pages,
        snapshot.plan,
        snapshot.kernel,
        rows,
        total(FaultKind.UNCLASSIFIED),
        total(FaultKind.FAILED),
        snapshot.completeness.lost,
        outcome.data_right,
    )


def traced(snapshot: Snapshot, pid: int, kind: FaultKind) -> int | None:
    """Faults of one kind by the process; a process without a fault may not be in the snapshot."""
    process = snapshot.process(pid)
    if process is None:
        return None if kind in snapshot.unseen else 0
    return process.count(kind)
