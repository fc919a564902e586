"""Rebuild processes, their sums and points in time from the tables process, series and fault."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from cowtrace.model import FaultKind, FaultRow, Place, Process
from cowtrace.recording import Point, together
from cowtrace.recording.checks import KINDS, ORIGINS, SOURCES, Rows, change, number, or_none

Series = dict[int, tuple[int, FaultRow]]  # by id: the process's id, what its faults share
Counted = list[tuple[int, int, int, int]]  # last interval's index, series, faults, bytes; by time
_K = TypeVar("_K")


def all_series(rows: Rows) -> Series:
    """By id."""
    return {
        key: (
            process,
            FaultRow(KINDS[kind], SOURCES[source], ORIGINS[origin], or_none(actor), 0, 0),
        )
        for key, process, kind, source, origin, actor in rows(
            "SELECT id, process, kind, source, origin, actor FROM series ORDER BY id"
        )
    }


def counted(rows: Rows, intervals: int) -> Counted:
    """By time. More intervals than a chart can show are taken together, several at a time."""
    step = together(intervals)
    return [
        (min(intervals, (number(part) + 1) * step) - 1, series, change(faults), change(copied))
        for part, series, faults, copied in rows(
            f"SELECT (interval - 1) / {step} AS part, series, sum(faults), sum(bytes) "
            "FROM fault GROUP BY part, series ORDER BY part"
        )
    ]


def points(series: Series, counted: Counted, times: tuple[int, ...]) -> tuple[Point, ...]:
    """Faults by process and kind, in each interval or several. `times`: the ends of intervals."""
    sums = _summed(
        ((at, series[key][0], series[key][1].kind), faults, copied)
        for at, key, faults, copied in counted
    )
    return tuple(
        Point(times[at], process - 1, kind, *both) for (at, process, kind), both in sums.items()
    )


def processes(
    rows: Rows, series: Series, counted: Counted, unseen: frozenset[FaultKind]
) -> tuple[Process, ...]:
    """In the order of their ids, which are 1, 2..."""
    totals = _summed((key, faults, copied) for _, key, faults, copied in counted)
    alike: dict[int, list[FaultRow]] = {}
    for key, (process, row) in series.items():
        faults, copied = totals.get(key, (0, 0))
        if faults or copied:
            alike.setdefault(process, []).append(replace(row, faults=faults, bytes=copied))
    return tuple(
        Process(
            pid=number(pid),
            comm=str(comm),
            parent=or_none(parent),
            exited=bool(exited),
            page_faults=None,
            rows=tuple(alike.get(key, ())),
            unseen=unseen,
            start_ns=or_none(start_ns),
        )
        for key, pid, start_ns, comm, parent, exited in rows(
            "SELECT id, pid, start_ns, comm, parent, exited FROM process ORDER BY id"
        )
    )


def places(rows: Rows) -> tuple[Place, ...]:
    """Where each process ran, in the same order."""
    return tuple(
        Place(or_none(nspid), None if cgroup is None else str(cgroup))
        for nspid, cgroup in rows("SELECT nspid, cgroup FROM process ORDER BY id")
    )


def _summed(counts: Iterable[tuple[_K, int, int]]) -> dict[_K, tuple[int, int]]:
    """Faults and bytes by key."""
    sums: dict[_K, tuple[int, int]] = {}
    for key, faults, copied in counts:
        before = sums.get(key, (0, 0))
        sums[key] = before[0] + faults, before[1] + copied
    return sums
