"""Sum how long forks stalled each parent: in the call, and in its copies and re-marks after it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from cowtrace.model import FaultKind, ForkGeneration, Process, Snapshot, known_sum

STALLING = (FaultKind.COPIED, FaultKind.REUSED)


@dataclass(frozen=True, slots=True)
class Stall:
    """The stall budget of one process that forked. Flushes of the TLB are in each part's time."""

    process: Process
    forks: int
    fork_ns: int | None  # in all its forks; None: one was not timed. As in ForkGeneration
    copied_ns: int | None  # in its copies that are attributed to them; None: not timed
    reused_ns: int | None  # in its re-marks, likewise
    share: float | None  # of the traced time: of all three
    first_seconds: tuple[int, ...]  # ns of stall to one second after each fork; the shortest first

    @property
    def stall_ns(self) -> int | None:
        """All three; None: one is not known."""
        return complete_sum(self.fork_ns, self.copied_ns, self.reused_ns)


def stalls(now: Snapshot, seconds: float | None = None) -> tuple[Stall, ...]:
    """One for each process that forked, the largest first. `seconds` of trace; None: all of it."""
    if seconds is None:
        seconds = (now.at_ns - now.attached_ns) / 1e9
    forks: dict[int, list[ForkGeneration]] = defaultdict(list)
    for each in now.generations:
        forks[each.parent].append(each)
    parents = {each.number: each.parent for each in now.generations}
    timed: dict[int, Counter[FaultKind]] = defaultdict(Counter)
    for row in now.details:
        by_parent = row.generation is not None and parents.get(row.generation) == row.pid
        if by_parent and row.ns is not None and row.kind in STALLING:
            timed[row.pid][row.kind] += row.ns
    processes = {process.pid: process for process in now.processes}  # the newest of each pid
    found = []
    for pid in forks.keys() & processes.keys():
        made = forks[pid]
        # Without a fault, there is no row: whether faults are timed, the fork says.
        known = all(each.first_second_ns is not None for each in made)
        fork_ns = complete_sum(*(each.fork_ns for each in made))
        copied, reused = (timed[pid][kind] if known else None for kind in STALLING)
        total = complete_sum(fork_ns, copied, reused)
        share = None if total is None or seconds <= 0 else total / (seconds * 1e9)
        first = sorted(each.stall_ns for each in made if each.stall_ns is not None)
        found.append(Stall(processes[pid], len(made), fork_ns, copied, reused, share, tuple(first)))

    def order(stall: Stall) -> tuple[int, int]:
        parts = known_sum(stall.fork_ns, stall.copied_ns, stall.reused_ns)
        return -(parts or 0), stall.process.pid

    return tuple(sorted(found, key=order))


def complete_sum(*numbers: int | None) -> int | None:
    """None: one is not known, or there are none."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """The least of these numbers that this share of them (0 to 1) does not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None
