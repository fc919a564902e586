"""Compare an outcome with a snapshot: expected, traced and pagemap side by side. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from cowtrace.model import FaultKind, FaultRow, Origin, Snapshot, Source
from cowtrace.workloads.outcome import KINDS, ExpectedRow, Outcome, total
from cowtrace.workloads.workload import find

_Key: TypeAlias = tuple[FaultKind, Source, Origin, int | None]  # kind, source, origin, actor


@dataclass(frozen=True, slots=True)
class Row:
    """Faults of one kind in one process. None: unknown, never 0."""

    role: str
    pid: int
    kind: FaultKind
    expected: int | None
    traced: int | None  # None where the plan cannot see the kind
    pagemap: int | None  # None where frame numbers are hidden, or do not show the kind
    upper_bound: bool = False  # the plan counts lost races as faults of other kinds

    @property
    def ok(self) -> bool:
        """All known counts agree; an upper bound is at least the others."""
        exact = {n for n in (self.expected, self.pagemap) if n is not None}
        if self.traced is None:
            return len(exact) <= 1
        if self.upper_bound:
            return len(exact) <= 1 and self.traced >= max(exact, default=0)
        return len(exact | {self.traced}) <= 1

    @property
    def observed(self) -> bool:
        """The tracer or the frame numbers gave a count."""
        return self.traced is not None or self.pagemap is not None

    @property
    def empty(self) -> bool:
        """No fault was expected, traced, or seen in the frame numbers."""
        return not (self.expected or self.traced or self.pagemap)


@dataclass(frozen=True, slots=True)
class Detail:
    """Faults of a process with one kind, source, origin and actor. None: any number, or unseen."""

    role: str
    pid: int
    kind: FaultKind
    source: Source  # UNKNOWN where the plan does not show it
    origin: Origin
    actor: int | None  # pid that must have made, or made, a remote fault
    expected: int | None
    traced: int | None
    expected_bytes: int | None
    traced_bytes: int | None

    @property
    def ok(self) -> bool:
        """What is both expected and traced agrees."""
        pairs = ((self.expected, self.traced), (self.expected_bytes, self.traced_bytes))
        return all(None in pair or pair[0] == pair[1] for pair in pairs)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows of a workload, and whether the trace was complete while it ran."""

    workload: str
    pages: int
    plan: str
    kernel: str
    rows: tuple[Row, ...]
    details: tuple[Detail, ...]  # of the kinds that the workload expects row by row
    unclassified: int  # of the workload's processes
    failed: int  # likewise, without expected ones
    lost: int  # of the whole trace
    data_right: bool

    @property
    def ok(self) -> bool:
        """The tracer, the frame numbers and the data read back are all as expected."""
        complete = not (self.unclassified or self.failed or self.lost)
        agree = all(row.ok for row in self.rows) and all(one.ok for one in self.details)
        return complete and self.data_right and agree

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every row and field, kinds by their labels."""
        fields = dataclasses.asdict(self) | {"ok": self.ok}
        for shown, row in zip(fields["rows"], self.rows, strict=True):
            shown |= {"kind": row.kind.label, "ok": row.ok}
        for shown, detail in zip(fields["details"], self.details, strict=True):
            source, origin = detail.source.name.lower(), detail.origin.name.lower()
            shown |= {"kind": detail.kind.label, "source": source, "origin": origin}
            shown |= {"ok": detail.ok}
        return fields


def comparison(outcome: Outcome, snapshot: Snapshot) -> Comparison:
    """Compare, process by process and kind by kind.

    The snapshot must come from a tracer that was attached, for the workloads' region, before the
    workload began. Where its plan cannot see the workload's path, nothing counts as traced.
    """
    chosen = find(outcome.name)
    unseen = chosen.unseen(snapshot)
    bound = chosen.races and FaultKind.UNCHANGED in snapshot.unseen
    rows = tuple(
        Row(
            process.role,
            process.pid,
            kind,
            process.expected.of(kind),
            None if unseen else traced(snapshot, process.pid, kind),
            process.pagemap.of(kind) if process.pagemap else None,
            bound,
        )
        for process in outcome.processes
        for kind in KINDS
    )

    def unexpected(kind: FaultKind) -> int:
        return sum(
            traced(snapshot, process.pid, kind) or 0
            for process in outcome.processes
            if kind not in {row.kind for row in process.expected.rows}
        )

    return Comparison(
        outcome.name,
        outcome.pages,
        snapshot.plan,
        snapshot.kernel,
        rows,
        () if unseen else tuple(details(outcome, snapshot)),
        unexpected(FaultKind.UNCLASSIFIED),
        unexpected(FaultKind.FAILED),
        snapshot.completeness.lost,
        outcome.data_right,
    )


def details(outcome: Outcome, snapshot: Snapshot) -> Iterator[Detail]:
    """Row by row: all expected rows, and all traced rows of the same kinds."""
    pids = {process.role: process.pid for process in outcome.processes}
    for process in outcome.processes:
        kinds = {row.kind for row in process.expected.rows}
        seen = snapshot.process(process.pid)
        found = [row for row in (seen.rows if seen else ()) if row.kind in kinds]
        has_source = not any(row.source is Source.UNKNOWN for row in found)
        rows = process.expected.rows
        wanted = _sums(((row, pids.get(row.actor)) for row in rows), has_source)
        got = _sums(((row, row.actor) for row in found), has_source)
        for key in wanted | got:
            expected, expected_bytes = wanted.get(key, (0, 0))
            faults, size = (None, None) if key[0] in snapshot.unseen else got.get(key, (0, 0))
            yield Detail(process.role, process.pid, *key, expected, faults, expected_bytes, size)


def _sums(
    rows: Iterable[tuple[ExpectedRow | FaultRow, int | None]], has_source: bool
) -> dict[_Key, tuple[int | None, int | None]]:
    """Faults and bytes by kind, source, origin and actor, from rows with their actors' PIDs."""
    sums: dict[_Key, tuple[int | None, int | None]] = {}
    for row, actor in rows:
        key = (row.kind, row.source if has_source else Source.UNKNOWN, row.origin, actor)
        faults, size = sums.get(key, (0, 0))
        sums[key] = (total((faults, row.faults)), total((size, row.bytes)))
    return sums


def traced(snapshot: Snapshot, pid: int, kind: FaultKind) -> int | None:
    """Faults of one kind by the process; a process without a fault may not be in the snapshot."""
    process = snapshot.process(pid)
    if process is None:
        return None if kind in snapshot.unseen else 0
    return process.count(kind)
