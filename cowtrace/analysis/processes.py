"""Choose, sum and sort the rows of the table of processes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from cowtrace.analysis.rates import Rates, per_second
from cowtrace.model import COPIES, FaultKind, Place, Process, Snapshot

SORT_KEYS = ("rate", "bytes", "faults", "copied", "zero", "reused", "shared", "pid", "comm")
DEFAULT_ROWS = 20
_KINDS: dict[str, tuple[FaultKind, ...]] = {
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
    rows: tuple[Row, ...]  # sorted; those of processes with nothing to show are left out
    processes: int  # in the system that faulted, or were created since attach
    limit: int = DEFAULT_ROWS  # rows shown at most
    total: bool = False  # with a row of sums over all of the snapshot's processes
    verbose: bool = False
    latency: bool = False  # a second table has the time in faults
    places: Mapping[int, Place] = field(default_factory=dict)  # by pid, of the rows' processes


def rows(
    now: Snapshot,
    before: Snapshot | None,
    *,
    sort: str = "rate",
    always: Iterable[int] = (),
    limit: int | None = None,
) -> tuple[Row, ...]:
    """One row for each process with a copy-on-write fault, and for each pid in `always`.

    `sort` is one of SORT_KEYS; numbers sort downwards, pid and comm upwards. The rate is that
    since `before`, or since attach without it. With `limit`, only the first so many: then a row
    is made for these alone, of however many processes.
    """
    rates = per_second(now, before)
    keep = frozenset(always)
    found = [p for p in now.processes if p.faults or p.pid in keep]
    key = _order(sort, rates)
    first = sorted(found, key=key) if limit is None else heapq.nsmallest(limit, found, key)
    return tuple(_row(process, rates) for process in first)


def total(now: Snapshot, before: Snapshot | None) -> Row:
    """The sums over all processes of the snapshot."""
    return summed(now.processes, per_second(now, before), "total")


def summed(processes: Iterable[Process], rates: Rates, comm: str) -> Row:
    """The sums over some processes, under a name."""
    each = [_row(p, rates) for p in processes]
    rate = [row.rate for row in each if row.rate is not None]
    return Row(
        pid=None,
        comm=comm,
        exited=False,
        faults=sum(row.faults for row in each),
        copied=_sum(row.copied for row in each),
        zero=_sum(row.zero for row in each),
        reused=_sum(row.reused for row in each),
        shared=_sum(row.shared for row in each),
        bytes=_sum(row.bytes for row in each),
        rate=sum(rate) if rate else None,
    )


def _row(process: Process, rates: Rates) -> Row:
    copied = process.count(*COPIES)
    return Row(
        pid=process.pid,
        comm=process.comm,
        exited=process.exited,
        faults=process.faults,
        copied=copied,
        zero=process.count(FaultKind.ZERO_FILLED),
        reused=process.count(FaultKind.REUSED),
        shared=process.count(FaultKind.SHARED),
        bytes=None if copied is None else process.copied_bytes,
        rate=None if copied is None else rates.get(process.identity, 0.0),
    )


def _order(sort: str, rates: Rates) -> Callable[[Process], tuple[object, ...]]:
    """By that column; equal ones stay in a stable, useful order. Missing numbers come last."""
    first: Callable[[Process], object] = attrgetter(sort)  # pid, comm
    if sort == "rate":
        first = lambda p: -rates.get(p.identity, 0.0)  # noqa: E731
    elif sort == "bytes":
        first = lambda p: -p.copied_bytes  # noqa: E731
    elif sort == "faults":
        first = lambda p: -p.faults  # noqa: E731
    elif kinds := _KINDS.get(sort):
        first = lambda p: -(p.count(*kinds) or 0)  # noqa: E731
    return lambda p: (first(p), -p.copied_bytes, -p.faults, p.pid)


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
