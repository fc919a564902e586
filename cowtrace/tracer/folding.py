"""Sum up what ended processes counted, except the largest: a fork storm makes them without end."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from cowtrace.model import DetailRow, FaultRow, PageFaults, Process

PID, NAME = 0, "[ended]"  # no process that faults has this PID
T = TypeVar("T", Process, DetailRow)


def fold_processes(ended: list[Process], most: int) -> list[Process]:
    """Keep `most`, in their order; the sums of the others are in front, as a process of PID 0.

    It counts as unchanged: what moves into it was counted before, so it has no rate.
    """
    kept, others = _parted(ended, most, lambda process: process.faults)
    if not others:
        return ended
    sums: dict[FaultRow, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for process in others:
        for row in process.rows:
            key = replace(row, actor=None, faults=0, bytes=0)
            faults, copied = sums[key]
            sums[key] = faults + row.faults, copied + row.bytes
    page_faults = [(p.page_faults.user, p.page_faults.kernel, p.page_faults.write_protect)
                   for p in others if p.page_faults]  # fmt: skip
    folded = Process(
        pid=PID,
        comm=NAME,
        parent=None,
        exited=True,
        page_faults=PageFaults(*map(sum, zip(*page_faults, strict=True))) if page_faults else None,
        rows=tuple(replace(key, faults=f, bytes=b) for key, (f, b) in sums.items()),
        unseen=others[0].unseen,
        changed_in=0,
    )
    return [folded, *kept]


def fold_rows(ended: list[DetailRow], most: int) -> tuple[list[DetailRow], int]:
    """The same of details. Also returns how many rows lost their process, mapping and stacks."""
    kept, others = _parted(ended, most, lambda row: row.faults)
    sums: dict[DetailRow, tuple[int, int, int | None]] = {}
    for row in others:
        key = replace(
            row, pid=PID, generation=None, mapping=None, user_stack=None, kernel_stack=None,
            faults=0, bytes=0, ns=None,
        )  # fmt: skip
        faults, copied, ns = sums.get(key, (0, 0, None))
        taken = ns if row.ns is None else (ns or 0) + row.ns
        sums[key] = faults + row.faults, copied + row.bytes, taken
    folded = [replace(key, faults=f, bytes=b, ns=ns) for key, (f, b, ns) in sums.items()]
    return [*folded, *kept], sum(row.pid != PID for row in others)


def _parted(ended: list[T], most: int, size: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """The largest, and the others: not before there are twice as many, so that it is rare."""
    if len(ended) <= 2 * most:
        return ended, []
    named: Iterable[T] = (one for one in ended if one.pid != PID)
    largest = {id(one) for one in heapq.nlargest(most, named, key=size)}
    kept = [one for one in ended if id(one) in largest]
    return kept, [one for one in ended if id(one) not in largest]
