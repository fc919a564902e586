"""Judge whether what a fork may still copy fits into the memory that is left."""

from __future__ import annotations

import enum
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
    fits: Verdict | None  # None: unknown, or it has ended


def judged(forecast: Forecast, left: MemoryLeft) -> Verdict | None:
    """None: it is not known how much memory is left."""
    expected, high = (
        _fit(size, left) for size in (forecast.to_come_bytes, forecast.most_to_come_bytes)
    )
    return Verdict(expected, high) if expected and high else None


def _fit(size: int, left: MemoryLeft) -> Fit | None:
    available, most = left.available_bytes, left.most_bytes
    if available is None or most is None:
        return None
    if size <= available:
        return Fit.FITS
    if size > most:
        return Fit.KILLS
    hard = least(left.machine.available_bytes, left.cgroup.available_bytes)
    return Fit.THROTTLES if hard is not None and size <= hard else Fit.SWAPS
