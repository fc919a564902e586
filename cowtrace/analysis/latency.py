"""Sum fault times into one histogram for each kind of fault and side of a fork."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from cowtrace.model import FaultKind, Snapshot, known_sum

# `other`: a process with no fork since attach, or whose forked children have all ended.
Side = Literal["parent", "child", "other"]
SIDES: tuple[Side, ...] = ("parent", "child", "other")


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of the faults of one kind, on one side of the forks that they are attributed to."""

    kind: FaultKind
    side: Side
    buckets: tuple[tuple[int, int], ...]  # (b, faults of at least 2**b ns, less than 2**(b+1))
    ns: int  # the sum of all
    tlb_flush_ns: int | None = None  # of these, in flushes of the TLB; None: not timed

    @property
    def faults(self) -> int:
        return sum(faults for _, faults in self.buckets)

    def percentile(self, share: float) -> int | None:
        """The bucket that this share of the faults (0 to 1) reaches."""
        counted = 0
        wanted = share * self.faults
        for bucket, faults in self.buckets:
            counted += faults
            if counted >= wanted:
                return bucket
        return None

    def below_ns(self, share: float) -> int | None:
        """An upper bound of the time that this share of the faults took."""
        bucket = self.percentile(share)
        return None if bucket is None else 2 << bucket


def timings(now: Snapshot) -> tuple[Timing, ...]:
    """Sums since attach, by kind, then side. Faults that were not timed are left out."""
    generations = {generation.number: generation for generation in now.generations}
    buckets: dict[tuple[FaultKind, Side], Counter[int]] = {}
    ns: Counter[tuple[FaultKind, Side]] = Counter()
    flushes: dict[tuple[FaultKind, Side], int | None] = {}
    for row in now.details:
        if row.latency is None or not row.faults:
            continue
        fork = generations.get(row.generation) if row.generation is not None else None
        side: Side = "other" if fork is None else "child" if row.pid == fork.child else "parent"
        key = (row.kind, side)
        buckets.setdefault(key, Counter())[row.latency] += row.faults
        ns[key] += row.ns or 0
        flushes[key] = known_sum(flushes.get(key), row.tlb_flush_ns)
    return tuple(
        Timing(*key, tuple(sorted(buckets[key].items())), ns[key], flushes[key])
        for key in sorted(buckets, key=lambda key: (key[0], SIDES.index(key[1])))
    )
