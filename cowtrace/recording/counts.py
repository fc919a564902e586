"""Rebuild processes, their sums and points in time from the tables of counts."""

from __future__ import annotations

from dataclasses import replace

from cowtrace.model import FaultKind, FaultRow, Place, Process
from cowtrace.recording import checked
from cowtrace.recording.checked import Rows
from cowtrace.recording.values import Point, together

Series = dict[int, tuple[int, FaultRow]]  # by number: the process's, what its faults have in common
Counted = list[tuple[int, int, int, int]]  # last interval's index, series, faults, bytes; by time


def all_series(rows: Rows) -> Series:
    """By number: the process's, and what its faults have in common."""
    return {
        number: (
            process,
            FaultRow(
                checked.KINDS[kind],
                checked.SOURCES[source],
                checked.ORIGINS[origin],
                checked.or_none(actor),
                0,
                0,
            ),
        )
        for number, process, kind, source, origin, actor in rows(
            "SELECT id, process, kind, source, origin, actor FROM series ORDER BY id"
        )
    }


def counted(rows: Rows, intervals: int) -> Counted:
    """(index of the last interval in it, series, faults, bytes), by time.

    Several intervals are taken together when there are more than a chart can show.
    """
    step = together(intervals)
    return [
        (
            min(intervals, (checked.number(part) + 1) * step) - 1,
            series,
            checked.change(faults),
            checked.change(copied),
        )
        for part, series, faults, copied in rows(
            f"SELECT (interval - 1) / {step} AS part, series, sum(faults), sum(bytes) "
            "FROM fault GROUP BY part, series ORDER BY part"
        )
    ]


def points(series: Series, counted: Counted, times: tuple[int, ...]) -> tuple[Point, ...]:
    """What each process did, by kind, in each interval or some together. `times`: their ends."""
    sums: dict[tuple[int, int, FaultKind], tuple[int, int]] = {}
    for at, number, faults, copied in counted:
        process, row = series[number]
        key = at, process, row.kind
        before = sums.get(key, (0, 0))
        sums[key] = before[0] + faults, before[1] + copied
    return tuple(
        Point(times[at], process - 1, kind, *both) for (at, process, kind), both in sums.items()
    )


def processes(
    rows: Rows, series: Series, counted: Counted, unseen: frozenset[FaultKind]
) -> tuple[Process, ...]:
    """In the order of their ids, which are 1, 2..."""
    totals: dict[int, tuple[int, int]] = {}
    for _, number, faults, copied in counted:
        before = totals.get(number, (0, 0))
        totals[number] = before[0] + faults, before[1] + copied
    sums: dict[int, list[FaultRow]] = {}
    for number, (process, row) in series.items():
        faults, copied = totals.get(number, (0, 0))
        sums.setdefault(process, []).append(replace(row, faults=faults, bytes=copied))
    return tuple(
        Process(
            pid=checked.number(pid),
            comm=str(comm),
            parent=checked.or_none(parent),
            exited=bool(exited),
            page_faults=None,
            rows=tuple(row for row in sums.get(number, ()) if row.faults or row.bytes),
            unseen=unseen,
            start_ns=checked.or_none(start_ns),
        )
        for number, pid, start_ns, comm, parent, exited in rows(
            "SELECT id, pid, start_ns, comm, parent, exited FROM process ORDER BY id"
        )
    )


def places(rows: Rows) -> tuple[Place, ...]:
    """Where they ran, in the same order."""
    return tuple(
        Place(checked.or_none(nspid), None if cgroup is None else str(cgroup))
        for nspid, cgroup in rows("SELECT nspid, cgroup FROM process ORDER BY id")
    )
