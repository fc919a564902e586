"""Rebuild processes, points in time, forks, mappings and stacks from their tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from cowtrace.model import (
    Account,
    Cause,
    DetailRow,
    FaultKind,
    FaultRow,
    ForkGeneration,
    Mapping,
    Place,
    Process,
    Stack,
    StackFrame,
    Written,
)
from cowtrace.recording import Point, together
from cowtrace.recording.checks import (
    Rows,
    cause,
    change,
    ending,
    frames,
    kind,
    mapping_type,
    number,
    or_null,
    origin,
    phase,
    row,
    source,
    text,
    unsigned,
    write_cause,
)

Series = dict[int, tuple[int, FaultRow]]  # by id: the process's id, what its faults share
Counted = list[tuple[int, int, int, int]]  # last interval's index, series, faults, bytes; by time
_K = TypeVar("_K")
_number_or_none = or_null(number)


def all_series(rows: Rows) -> Series:
    """By id."""
    return {
        key: (process, FaultRow(*row(columns, kind, source, origin, _number_or_none, int, int)))
        for key, process, *columns in rows(
            "SELECT id, process, kind, source, origin, actor, 0, 0 FROM series ORDER BY id"
        )
    }


def counted(rows: Rows, intervals: int) -> Counted:
    """By time. More intervals than a chart can show are summed, several to a point."""
    step = together(intervals)
    # Only numbers are sorted: CAST, since text of any length could stand in the column.
    return [
        (min(intervals, (number(part) + 1) * step) - 1, series, change(faults), change(copied))
        for part, series, faults, copied in rows(
            f"SELECT (interval - 1) / {step} AS part, CAST(series AS INTEGER) AS id, "
            "sum(faults), sum(bytes) FROM fault GROUP BY part, id ORDER BY part"
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
    fault_rows: dict[int, list[FaultRow]] = {}
    for key, (process, shared) in series.items():
        faults, copied = totals.get(key, (0, 0))
        if faults or copied:
            fault_rows.setdefault(process, []).append(replace(shared, faults=faults, bytes=copied))
    return tuple(
        Process(
            pid=number(pid),
            comm=text(comm),
            parent=_number_or_none(parent),
            exited=bool(number(exited)),
            page_faults=None,
            rows=tuple(fault_rows.get(key, ())),
            unseen=unseen,
            start_ns=_number_or_none(start_ns),
        )
        for key, pid, start_ns, comm, parent, exited in rows(
            "SELECT id, pid, start_ns, comm, parent, exited FROM process ORDER BY id"
        )
    )


def places(rows: Rows) -> tuple[Place, ...]:
    """Where each process ran, in the same order."""
    found = rows("SELECT nspid, cgroup FROM process ORDER BY id")
    return tuple(Place(*row(columns, _number_or_none, or_null(text))) for columns in found)


def generations(rows: Rows, version: int) -> tuple[ForkGeneration, ...]:
    """By number."""
    ended = _number_or_none, or_null(ending)
    cost = (_number_or_none,) * (5 if version >= 6 else 0)
    checks = number, number, number, number, _number_or_none, *ended, number, number, *cost
    found = rows("SELECT * FROM generation ORDER BY number")
    return tuple(ForkGeneration(*row(columns, *checks)) for columns in found)


def mappings(rows: Rows) -> dict[int, Mapping]:
    """By id."""
    checks = unsigned, unsigned, mapping_type, unsigned, text, unsigned
    found = rows("SELECT * FROM mapping")
    return {key: Mapping(*row(columns, *checks)) for key, *columns in found}


def stacks(rows: Rows, version: int) -> dict[int, Stack]:
    """By id."""
    line = "line" if version >= 5 else "NULL"
    found = {
        key: StackFrame(*row(columns, text, text, unsigned, _number_or_none))
        for key, *columns in rows(f"SELECT id, symbol, module, address, {line} FROM frame")
    }
    stack = frames(found)
    return {key: stack(ids) for key, ids in rows("SELECT * FROM stack")}


def details(
    rows: Rows,
    version: int,
    sampled: int,
    mappings: dict[int, Mapping],
    stacks: dict[int, Stack],
) -> tuple[DetailRow, ...]:
    """The rows that were counted, or with `sampled` 1 those estimated from samples."""
    stack = or_null(stacks.__getitem__)
    checks = (
        *(number, kind, source, origin, _number_or_none),
        *(or_null(mappings.__getitem__), stack, stack),
        *(or_null(lambda latency: number(latency, most=64)), number, number, _number_or_none),
    )
    what = "cause, type, phase" if version >= 5 else "NULL, NULL, NULL"
    found = rows(
        f"SELECT {what}, pid, kind, source, origin, generation, mapping, user_stack, kernel_stack, "
        f"latency, faults, bytes, ns FROM detail WHERE sampled = {sampled} ORDER BY id"
    )
    return tuple(
        replace(DetailRow(*row(each[3:], *checks)), written=_written(*each[:3])) for each in found
    )


def _written(what: object, type_name: object, meanwhile: object) -> Written | None:
    if what is None:
        return None
    return Written(write_cause(what), or_null(text)(type_name), or_null(phase)(meanwhile))


def _summed(counts: Iterable[tuple[_K, int, int]]) -> dict[_K, tuple[int, int]]:
    """Faults and bytes by key."""
    sums: dict[_K, tuple[int, int]] = {}
    for key, faults, copied in counts:
        before = sums.get(key, (0, 0))
        sums[key] = before[0] + faults, before[1] + copied
    return sums


def accounts(rows: Rows) -> tuple[Account, ...]:
    """Private memory, in the order of their ids."""
    by_cause: dict[int, dict[Cause, int]] = {}
    traced: dict[int, dict[Cause, int]] = {}
    for account, word, size, counted in rows("SELECT * FROM account_cause"):
        if number(size):
            by_cause.setdefault(account, {})[cause(word)] = size
        if counted is not None:
            traced.setdefault(account, {})[cause(word)] = number(counted)
    sizes = number, number, number, change, number, number, number
    checks = number, text, lambda value: bool(number(value)), *sizes
    found = []
    for key, *columns in rows("SELECT * FROM account ORDER BY id"):
        one = Account(*row(columns, *checks))
        found.append(replace(one, by_cause=by_cause.get(key, {}), traced=traced.get(key)))
    return tuple(found)
