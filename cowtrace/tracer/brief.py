"""Sum up processes that came and went within one round: a fork storm makes thousands a second.

The largest stay. The sums of the others are those of PID 0; their details have no mapping, stack or
fork, and what their parents copied after these forks has no fork.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from cowtrace.model import ENDED_PID
from cowtrace.tracer import abi
from cowtrace.tracer.generations import linked
from cowtrace.tracer.packed import Packed

FEW = 512  # in a round, which all stay
_MANY = 1 << 11  # sums of details that are held back, to yield each once


class BriefProcesses:
    """Chooses them round after round, and sums up what was counted of them.

    A process may fault once more after it has exited, so it counts as brief for two rounds.
    """

    def __init__(self, few: int = FEW) -> None:
        self._few = few
        self.ended = Packed[int, abi.Process](abi.PROCESS, {})  # in this round
        self.before = self.ended  # in the round before: they may be forgotten
        self.pids: set[int] = set()  # of both
        self._linked: set[int] = set()  # forks that copies can still refer to
        self._forks: set[int] = set()  # those that made these processes, until they are forgotten
        self.folded = 0  # detail sums that lost their mapping, stack or fork

    def choose(
        self,
        processes: Packed[int, abi.Process],
        sums: Mapping[abi.FaultKey, abi.FaultSum],
        known: Container[int],
    ) -> None:
        """Those of a round that has ended. `known`: of earlier rounds, which are not brief."""
        self.before = self.ended.only(
            tgid
            for tgid, info in self.ended.items()
            if processes.get(tgid, info).start_ns == info.start_ns
        )
        brief = [
            tgid
            for tgid, info in processes.items()
            if info.exited and tgid not in known and tgid not in self.before
        ]
        self.ended = processes.only(_smallest(brief, sums, self._few))
        self.pids = self.before.keys() | self.ended.keys()
        self._linked = {
            number
            for tgid, info in processes.items()
            if tgid not in self.pids
            for number in (info.created_by, info.last_fork)
        }

    def sums(
        self, counted: Mapping[abi.FaultKey, abi.FaultSum]
    ) -> dict[abi.FaultKey, abi.FaultSum]:
        """The sums of faults."""
        found: dict[abi.FaultKey, abi.FaultSum] = {}
        for key, value in counted.items():
            if key.tgid in self.pids:
                key = abi.FaultKey(ENDED_PID, 0, key.kind, key.source, key.origin, key.half)
            found[key] = _add(value, found.get(key))
        return found

    def totals(
        self, counted: Iterable[tuple[int, abi.PageFaultSum]]
    ) -> dict[int, abi.PageFaultSum]:
        """The sums of all page faults, by process."""
        found: dict[int, abi.PageFaultSum] = {}
        for tgid, value in counted:
            if tgid in self.pids:
                tgid = ENDED_PID
            found[tgid] = _add(value, found.get(tgid))
        return found

    def forks(self, forks: Mapping[int, abi.Generation]) -> tuple[set[int], set[int]]:
        """Those of other processes; those that no copy can be attributed to any more."""
        self._forks &= forks.keys()
        self._forks |= {number for number, fork in forks.items() if fork.child in self.ended}
        others = forks.keys() - self._forks
        last = {number for number in self._forks if forks[number].child in self.ended}
        return others, self._forks - linked(chain(self._linked, others, last), forks)

    def details(
        self, counted: Iterable[tuple[abi.DetailKey, abi.DetailSum]]
    ) -> Iterator[tuple[abi.DetailKey, abi.DetailSum]]:
        """The sums of details. After `forks`."""
        found: dict[abi.DetailKey, abi.DetailSum] = {}
        for key, value in counted:
            if key.tgid in self.pids:
                what = key.kind, key.source, key.origin, key.half, key.latency
                key = abi.DetailKey(0, 0, 0, ENDED_PID, 0, *what)
            elif key.generation in self._forks:
                key = key._replace(generation=0)
            else:
                yield key, value
                continue
            self.folded += 1
            found[key] = _add(value, found.get(key))
            if len(found) >= _MANY:
                yield from found.items()
                found.clear()
        yield from found.items()


def _smallest(brief: list[int], sums: Mapping[abi.FaultKey, abi.FaultSum], few: int) -> set[int]:
    """All but a few, which have the most faults."""
    if len(brief) <= few:
        return set()
    faults: dict[object, int] = dict.fromkeys(brief, 0)
    for key, counted in sums.items():
        if key.tgid in faults:
            faults[key.tgid] += abi.signed(counted.faults)
    return set(brief).difference(heapq.nlargest(few, brief, key=faults.__getitem__))


def _add(one: Any, other: Any) -> Any:
    """The sums of both, modulo 2**64."""
    if other is None:
        return one
    return one._make([(a + b) & 0xFFFF_FFFF_FFFF_FFFF for a, b in zip(one, other, strict=True)])
