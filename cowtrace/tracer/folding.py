"""Sum up what ended processes counted, except the largest: a fork storm makes them without end."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from cowtrace.model import ENDED_PID, DetailRow, Process

T = TypeVar("T", Process, DetailRow)


def fold_rows(ended: list[DetailRow], most: int) -> tuple[list[DetailRow], int]:
    """Keep `most`, in their order; the sums of the others are in front, as those of PID 0.

    Also returns how many rows lost their process, mapping and stacks.
    """
    kept, others = parted(ended, most, lambda row: row.faults)
    sums: dict[DetailRow, tuple[int, int, int | None]] = {}
    for row in others:
        key = replace(
            row, pid=ENDED_PID, generation=None, mapping=None, user_stack=None, kernel_stack=None,
            faults=0, bytes=0, ns=None,
        )  # fmt: skip
        faults, copied, ns = sums.get(key, (0, 0, None))
        taken = ns if row.ns is None else (ns or 0) + row.ns
        sums[key] = faults + row.faults, copied + row.bytes, taken
    folded = [replace(key, faults=f, bytes=b, ns=ns) for key, (f, b, ns) in sums.items()]
    return [*folded, *kept], sum(row.pid != ENDED_PID for row in others)


def parted(ended: list[T], most: int, size: Callable[[T], int]) -> tuple[list[T], list[T]]:
    """The largest, and the others: not before there are twice as many, so that it is rare."""
    if len(ended) <= 2 * most:
        return ended, []
    named: Iterable[T] = (one for one in ended if one.pid != ENDED_PID)
    largest = {id(one) for one in heapq.nlargest(most, named, key=size)}
    kept = [one for one in ended if id(one) in largest]
    return kept, [one for one in ended if id(one) not in largest]
