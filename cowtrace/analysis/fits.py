"""Judge whether what forks may still copy fits into the memory that is left."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from cowtrace.analysis.forecast import Forecast
from cowtrace.model.memory_left import MemoryLeft, least


class Fit(enum.Enum):
    """What happens if so much is copied."""

    FITS = "yes"
    THROTTLES = "slow"  # the cgroup is above memory.high then
    SWAPS = "swap"
    KILLS = "no"  # the kernel kills a process of the machine or of the cgroup


@dataclass(frozen=True, slots=True)
class Verdict:
    """For what is expected, and for what comes in nine of ten cases at most."""

    expected: Fit
    high: Fit

    @property
    def text(self) -> str:
        """`yes`, `no`; `no?` if it may be."""
        return self.high.value + ("" if self.high is self.expected else "?")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to come of one fork."""

    forecast: Forecast | None  # None: it is too early
    left: MemoryLeft  # for the parent
    fits: Verdict | None  # with the other live forks; None: unknown, or it has ended


def judged(
    on_machine: Iterable[Forecast], in_cgroup: Iterable[Forecast], left: MemoryLeft
) -> Verdict | None:
    """Whether all of these fit together.

    `on_machine`: of all live forks; `in_cgroup`: of those with the same nearest limit. None: it is
    not known how much memory is left.
    """
    machine, cgroup = [*on_machine], [*in_cgroup]
    expected = _fit(
        sum(each.to_come_bytes for each in machine),
        sum(each.to_come_bytes for each in cgroup),
        left,
    )
    high = _fit(
        sum(each.most_to_come_bytes for each in machine),
        sum(each.most_to_come_bytes for each in cgroup),
        left,
    )
    return Verdict(expected, high) if expected and high else None


def _fit(on_machine: int, in_cgroup: int, left: MemoryLeft) -> Fit | None:
    machine, cgroup = left.machine, left.cgroup
    if left.available_bytes is None or left.most_bytes is None:
        return None
    unthrottled = least(cgroup.available_bytes, cgroup.unthrottled_bytes)
    if _within(on_machine, machine.available_bytes) and _within(in_cgroup, unthrottled):
        return Fit.FITS
    if _within(on_machine, machine.available_bytes) and _within(in_cgroup, cgroup.available_bytes):
        return Fit.THROTTLES
    swap = least(machine.swap_bytes, cgroup.swap_bytes) or 0
    if _within(on_machine - swap, machine.available_bytes) and _within(
        in_cgroup - swap, cgroup.available_bytes
    ):
        return Fit.SWAPS
    return Fit.KILLS


def _within(size: int, limit: int | None) -> bool:
    return limit is None or size <= limit
