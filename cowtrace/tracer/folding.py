"""Sum up what ended processes counted, except the largest: a fork storm makes them without end."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from cowtrace.model import ENDED_PID, DetailRow, Process, known_sum

T = TypeVar("T", Process, DetailRow)


def fold_rows(ended: list[DetailRow], most: int) -> tuple[list[DetailRow], int]:
    """Keep `most`, in their order; the sums of the others are in front, as those of PID 0.

    Also returns how many rows lost their process, mapping and stacks.
    """
    kept, others = parted(ended, most, lambda row: row.faults)
    sums: dict[DetailRow, tuple[int, int, int | None, int | None]] = {}
    for row in others:
        key = replace(
            row, pid=ENDED_PID, generation=None, mapping=None, user_stack=None, kernel_stack=None,
            faults=0, bytes=0, ns=None, tlb_flush_ns=None, eighth=None, number=0,
        )  # fmt: skip
        faults, copied, ns, flushes = sums.get(key, (0, 0, None, None))
        sums[key] = (
            *(faults + row.faults, copied + row.bytes),
            *(known_sum(ns, row.ns), known_sum(flushes, row.tlb_flush_ns)),
        )
    folded = [
        replace(key, faults=faults, bytes=copied, ns=ns, tlb_flush_ns=flushes)
        for key, (faults, copied, ns, flushes) in sums.items()
    ]
    return [*folded, *kept], sum(row.pid != ENDED_PID for row in others)


def parted(ended: list[T], most: int, size: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """The largest, and the others: not before there are twice as many, so that it is rare."""
    if len(ended) <= 2 * most:
        return ended, []
    named: Iterable[T] = (one for one in ended if one.pid != ENDED_PID)
    largest = {id(one) for one in heapq.nlargest(most, named, key=size)}
    kept = [one for one in ended if id(one) in largest]
    return kept, [one for one in ended if id(one) not in largest]
