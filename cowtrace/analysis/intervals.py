"""Compute bootstrap confidence intervals of the difference between two groups of runs, by scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cowtrace.errors import CowtraceError

LEAST = 5  # values of each group: with fewer, not even two groups apart from each other prove much
_RESAMPLES = 49_999  # the ends of the interval are few of them


def require() -> Any:
    """scipy.stats. Raises CowtraceError where scipy is not installed."""
    try:
        from scipy import stats
    except ImportError:
        raise CowtraceError(
            "confidence intervals need scipy, which is not installed",
            hint="pip install 'cowtrace[try]', or: apt install python3-scipy",
        ) from None
    return stats


def change(base: Sequence[float], other: Sequence[float]) -> float:
    """By what share the mean differs, -0.73: 73 % less; where a base is 0: the difference."""
    was, now = math.fsum(base) / len(base), math.fsum(other) / len(other)
    return now / was - 1 if is_relative(base) else now - was


def is_relative(base: Sequence[float]) -> bool:
    """False: a run without any would be divided by."""
    return min(base) > 0


def interval(
    base: Sequence[float], other: Sequence[float], confidence: float, seed: int
) -> tuple[float, float]:
    """The confidence interval of `change`. Each group has at least LEAST values.

    Percentiles of a bootstrap. Each group is resampled by itself, not in pairs of one block: seven
    pairs have too few resamples for the level that several questions at once need, and what a
    block's runs have in common makes this interval too wide, never too narrow. For few values,
    percentiles are too near to each other: the level is raised by what Student's t adds, and by the
    resamples' smaller variance (Hesterberg, What Teachers Should Know About the Bootstrap, 2015).
    """
    if min(base) == max(base) and min(other) == max(other):
        return change(base, other), change(base, other)  # an exact count, the same in each run
    stats = require()
    least = min(len(base), len(other))
    raised = math.sqrt(least / (least - 1)) * stats.t.isf(
        (1 - confidence) / 2, len(base) + len(other) - 2
    )
    relative = is_relative(base)

    def statistic(was: Any, now: Any, axis: int) -> Any:
        was, now = was.mean(axis=axis), now.mean(axis=axis)
        return now / was - 1 if relative else now - was

    found = stats.bootstrap(
        (base, other), statistic, n_resamples=_RESAMPLES, vectorized=True, method="percentile",
        confidence_level=1 - 2 * stats.norm.sf(raised), random_state=seed,
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)
