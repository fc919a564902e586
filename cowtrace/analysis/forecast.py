"""Forecast what a fork will have copied when its child ends, from what it has copied so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cowtrace.analysis.copy_curves import Curve, Earlier, Point, Weighted, fitted

_ENDLESS = 1e12  # seconds
_LEVEL = 0.95  # of the expected total: the copies have levelled off
_ALL = 0.99  # of what is shared: nothing is left to be forecast
_STEPS = 60  # of a search by halving
# How far a course that fits so far goes wrong, as a part of what is still to come: as for 8 of 10
# saves of Redis, see the guide. It is less where an earlier fork of the same parent went that way.
_ERRORS = ((-0.4, 0.2), (0.0, 0.6), (0.4, 0.2))
_EARLIER_ERRORS = ((-0.12, 0.2), (0.0, 0.6), (0.12, 0.2))
_LOW, _HIGH = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class Clock:
    """When the child ends, and how much faster the writers will be until then than so far."""

    end_seconds: float | None  # since the fork; None: unknown
    spread: float = 0.1  # of the time that is left
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes that a fork will have copied in all; it is most at its end, and freed then."""

    copied_bytes: int  # so far
    low_bytes: int  # one in ten is below
    expected_bytes: int  # the median
    high_bytes: int  # one in ten is above
    ends_in_seconds: float | None  # None: unknown; the bytes are as if it never ended
    levels_off_in_seconds: float | None  # until 95 % of what is expected; None: unknown
    earlier: int = 0  # forks of the same parent that it rests on

    @property
    def to_come_bytes(self) -> int:
        """Expected."""
        return self.expected_bytes - self.copied_bytes

    @property
    def most_to_come_bytes(self) -> int:
        """In nine of ten cases."""
        return self.high_bytes - self.copied_bytes


def of_ended(copied_bytes: int) -> Forecast:
    """It is known."""
    return Forecast(copied_bytes, copied_bytes, copied_bytes, copied_bytes, 0.0, 0.0)


def forecast(
    points: Sequence[Point], shared_bytes: int, clock: Clock, earlier: Sequence[Earlier] = ()
) -> Forecast | None:
    """Of a fork that goes on. `points`: the newest last. None: it is too early."""
    curves = fitted(points, shared_bytes, earlier)
    if not curves and (len(points) < 2 or points[-1][1] < _ALL * shared_bytes):
        return None
    now, copied = points[-1]
    left = None if clock.end_seconds is None else max(0.0, clock.end_seconds - now)
    if not curves:
        most = max(round(copied), shared_bytes)
        return Forecast(round(copied), round(copied), round(copied), most, left, 0.0, len(earlier))
    totals = sorted(_totals(curves, now, copied, shared_bytes, clock))
    expected = _quantile(totals, 0.5)
    return Forecast(
        copied_bytes=round(copied),
        low_bytes=round(_quantile(totals, _LOW)),
        expected_bytes=round(expected),
        high_bytes=round(_quantile(totals, _HIGH)),
        ends_in_seconds=left,
        levels_off_in_seconds=_levels_off(curves, now, expected, clock),
        earlier=len(earlier),
    )


def _totals(
    curves: Sequence[Weighted], now: float, copied: float, shared: int, clock: Clock
) -> list[tuple[float, float]]:
    """Totals with their weights: of each curve, for ends and errors that are likely."""
    ends: list[tuple[float, float]] = [(_ENDLESS, 1.0)]
    if clock.end_seconds is not None:
        left = max(0.0, clock.end_seconds - now) * clock.speed
        spread = ((-1.0, 0.2), (0.0, 0.6), (1.0, 0.2))
        times = [(max(0.0, 1 + 1.3 * clock.spread * by), weight) for by, weight in spread]
        ends = [(now + left * often, weight) for often, weight in times]
    most = max(float(shared), copied)
    return [
        (min(most, copied + to_come * (1 + error)), weight * likely * certain)
        for weight, curve in curves
        for end, likely in ends
        for to_come in (max(0.0, curve.copied(end) - copied),)
        for error, certain in (_ERRORS if isinstance(curve, Curve) else _EARLIER_ERRORS)
    ]


def _quantile(values: Sequence[tuple[float, float]], part: float) -> float:
    """Of sorted values with weights that add up to nearly 1."""
    sum_ = 0.0
    for value, weight in values:
        sum_ += weight
        if sum_ >= part:
            return value
    return values[-1][0]


def _levels_off(
    curves: Sequence[Weighted], now: float, expected: float, clock: Clock
) -> float | None:
    """Seconds from now on, by the likeliest curve."""
    curve = max(curves, key=lambda each: each[0])[1]
    last = _ENDLESS if clock.end_seconds is None else now + max(0.0, clock.end_seconds - now)
    wanted = _LEVEL * min(expected, curve.copied(now + (last - now) * clock.speed))
    if curve.copied(now) >= wanted:
        return 0.0
    low, high = 1e-3, last - now
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)  # from milliseconds to ages
        done = curve.copied(now + middle * clock.speed) >= wanted
        low, high = (low, middle) if done else (middle, high)
    return high if clock.speed else None
