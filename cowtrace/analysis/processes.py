"""Compute rates of copying; choose, sum and sort the rows of the table of processes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cowtrace.model import COPIES, ENDED_PID, FaultKind, Place, Process, Snapshot

SORT_KEYS = ("rate", "bytes", "faults", "copied", "zero", "reused", "shared", "pid", "comm")
DEFAULT_ROWS = 20
Rates = dict[tuple[int, int | None], float]  # bytes copied a second, by Process.identity
COUNTED: dict[str, tuple[FaultKind, ...]] = {  # fields of a row, and the kinds that they count
    "copied": COPIES,
    "zero": (FaultKind.ZERO_FILLED,),
    "reused": (FaultKind.REUSED,),
    "shared": (FaultKind.SHARED,),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. None: the plan cannot see it."""

    pid: int | None  # None for sums over several
    comm: str  # hostile: see text
    exited: bool
    faults: int
    copied: int | None  # pages of private files included
    zero: int | None
    reused: int | None
    shared: int | None
    bytes: int | None  # copied, not zero-filled
    rate: float | None  # bytes copied per second


@dataclass(frozen=True, slots=True)
class Frame:
    """What one refresh shows."""

    snapshot: Snapshot  # of the chosen processes
    rows: tuple[Row, ...]  # sorted; without processes that have nothing to show
    processes: int  # in the system that faulted, or were created since attach
    limit: int = DEFAULT_ROWS  # rows shown at most
    total: bool = False  # with a row of sums over all of the snapshot's processes
    verbose: bool = False
    latency: bool = False  # a second table has the time in faults
    places: Mapping[int, Place] = field(default_factory=dict)  # by pid, of the rows' processes


def per_second(now: Snapshot, before: Snapshot | None) -> Rates:
    """Compute rates between two snapshots (since attach without `before`).

    A process that did not change in between has none.
    """
    start_ns = before.at_ns if before else now.attached_ns
    seconds = (now.at_ns - start_ns) / 1e9
    if seconds <= 0:
        return {}
    changed = now.changed_since(before)
    pids = {process.pid for process in changed}
    was = before.processes if before and pids else ()
    earlier = {p.identity: p.copied_bytes for p in was if p.pid in pids}
    if ENDED_PID in pids:  # what has moved into it since was counted before
        left = {process.identity for process in now.processes}
        moved = sum(p.copied_bytes for p in was if p.identity not in left)
        earlier[ENDED_PID, None] = earlier.get((ENDED_PID, None), 0) + moved
    return {
        p.identity: max(0, p.copied_bytes - earlier.get(p.identity, 0)) / seconds for p in changed
    }


def rows(
    now: Snapshot,
    before: Snapshot | None,
    *,
    sort: str = "rate",
    always: Iterable[int] = (),
    limit: int | None = None,
) -> tuple[Row, ...]:
    """One row for each process with a copy-on-write fault, and for each pid in `always`.

    `sort` is one of SORT_KEYS; numbers sort downwards, pid and comm upwards. A rate is measured
    from `before`, or else from attach. `limit`: make the first rows only, which is fast even for
    many processes.
    """
    rates = per_second(now, before)
    keep = frozenset(always)
    found = [p for p in now.processes if p.faults or p.pid in keep]
    key = _order(sort, rates)
    first = sorted(found, key=key) if limit is None else heapq.nsmallest(limit, found, key)
    return tuple(_row(process, rates) for process in first)


def total(now: Snapshot, before: Snapshot | None) -> Row:
    """Sum over all processes of the snapshot."""
    return summed(now.processes, per_second(now, before), "total")


def summed(processes: Iterable[Process], rates: Rates, comm: str) -> Row:
    """Sum over some processes, under a name."""
    each = [_row(p, rates) for p in processes]
    sums = {name: _sum(getattr(row, name) for row in each) for name in (*COUNTED, "bytes", "rate")}
    faults = sum(row.faults for row in each)
    return Row(pid=None, comm=comm, exited=False, faults=faults, **sums)


def _row(process: Process, rates: Rates) -> Row:
    seen = process.count(*COPIES) is not None
    return Row(
        pid=process.pid,
        comm=process.comm,
        exited=process.exited,
        faults=process.faults,
        **{name: process.count(*kinds) for name, kinds in COUNTED.items()},
        bytes=process.copied_bytes if seen else None,
        rate=rates.get(process.identity, 0.0) if seen else None,
    )


def _order(sort: str, rates: Rates) -> Callable[[Process], tuple[object, ...]]:
    """A sort key: the column, then bytes, faults and pid. Missing numbers come last."""

    def first(process: Process) -> Any:
        if sort == "rate":
            return -rates.get(process.identity, 0.0)
        if sort in COUNTED:
            return -(process.count(*COUNTED[sort]) or 0)
        if sort in ("pid", "comm"):
            return getattr(process, sort)
        return -(process.faults if sort == "faults" else process.copied_bytes)

    return lambda p: (first(p), -p.copied_bytes, -p.faults, p.pid)


def _sum(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
