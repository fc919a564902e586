"""Fit curves to the copies of a fork: how many different pages are written, over time.

Writers draw pages out of the shared ones at some rate, and each page is copied once. Were all drawn
alike, c(t) = A (1 - exp(-r t)). Few are: rates that are spread (Zipf's law, structures of different
density) make a longer tail, A (1 - (1 + r t / k)^-k), the same for a large k. Beside these, small
tables that each request writes are copied soon: B (1 - exp(-f t)).

A fork that has just begun does not show yet where its curve ends. So all curves of a grid are kept,
each through the point that was seen last, weighted by how well it explains the way there. What an
earlier fork of the same parent copied is such a curve, too, at another speed: a better one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

_PAGE = 4096  # bytes, for the scatter of counts: larger pages scatter more, which does not matter
_EVEN = 1e6  # k of pages that are drawn alike
_SEGMENTS = 10  # of the time since the fork, compared one by one
_NOISE = 0.05  # of the rate of one segment: requests come unevenly, and CPUs are busy
_FREEDOM = 4.0  # how certain that figure is: Student's t
_BURST_SECONDS = 0.1  # what is copied until then is no part of the curve: timers, the fork's end
_EARLIER = 0.9  # weight of the curves of earlier forks together
_EARLIER_NOISE = 0.12  # these scatter as well
_FASTEST = 1e3  # how much faster than an earlier fork's copies these can come
_BEYOND = 1.25  # as often as what that one copied at most can be copied now
_STEPS = 60  # of a search by halving
_NEGLIGIBLE = 1e-6  # weight

# A priori: part of the shared memory that is ever written, more likely the larger it is; k; part in
# small tables, and their f t now. Chosen on 69 saves of Redis; others check them, see the guide.
_LARGE = 1.5
_REACH = {part: part**_LARGE for part in (0.8**number for number in range(14))}
_SOON = (1.02, 1.07, 1.15)  # or as often as what is copied by now: then it levels off here
_TAIL = {0.6: 1.0, 1.5: 2.0, _EVEN: 1.0}
_TABLES = {0.0: 1.0} | dict.fromkeys((0.01, 0.02, 0.035, 0.05, 0.07, 0.1, 0.15), 1.2)
_TABLE_TIMES = (1.2, 2.5, 5.0, 10.0)

Point = tuple[float, float]  # seconds since the fork, bytes copied


@dataclass(frozen=True, slots=True)
class Curve:
    """Copied bytes by the time since the fork."""

    start_bytes: float  # at once
    reach_bytes: float  # A
    rate: float  # r, per second
    tail: float  # k
    table_bytes: float = 0.0  # B
    table_rate: float = 0.0  # f, per second

    def copied(self, seconds: float) -> float:
        """Bytes, by then; infinite: if the child never ends."""
        slow = self.reach_bytes * (1 - _left(self.tail, self.rate * seconds))
        fast = self.table_bytes and self.table_bytes * (1 - math.exp(-self.table_rate * seconds))
        return self.start_bytes + slow + fast


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier fork copied, point by point; `beyond` its end, as a curve goes on."""

    points: tuple[Point, ...]  # without what was copied at once
    beyond: Curve
    shared_bytes: int
    start_bytes: float = 0.0
    scale: float = 1.0  # of bytes
    speed: float = 1.0

    def copied(self, seconds: float) -> float:
        """Bytes, by then."""
        return self.start_bytes + self.scale * self._raw(seconds * self.speed)

    def through(self, point: Point, shared_bytes: int, start: float) -> Earlier | None:
        """The same for so much shared memory, at the speed that leads to this point, if any."""
        seconds, copied = point
        scale = shared_bytes / self.shared_bytes
        wanted, low, high = (copied - start) / scale, 0.0, self.points[-1][0] * _FASTEST
        most = self._raw(high)
        if not 0 < wanted <= most * _BEYOND:
            return None
        if wanted > most * 0.999:  # it had levelled off at a little less
            scale *= wanted / (most * 0.999)
            wanted = most * 0.999
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._raw(middle) < wanted else (low, middle)
        return replace(self, start_bytes=start, scale=scale, speed=high / seconds)

    def _raw(self, seconds: float) -> float:
        last, total = self.points[-1]
        if seconds >= last:
            return total + self.beyond.copied(seconds) - self.beyond.copied(last)
        at = bisect_left(self.points, (seconds,))
        (began, copied) = self.points[at - 1] if at else (0.0, 0.0)
        until, then = self.points[at]
        return copied + (then - copied) * (seconds - began) / (until - began)


Course = Curve | Earlier
Weighted = tuple[float, Course]  # weights add up to 1


def fitted(
    points: Sequence[Point], shared_bytes: int, earlier: Iterable[Earlier] = ()
) -> list[Weighted]:
    """Curves through the last point, by how well they explain those before it.

    Empty: there are too few points yet, or more was copied than shared.
    """
    start = _start(points)
    if len(points) < 2 or points[-1][1] <= start or points[-1][0] <= _BURST_SECONDS:
        return []
    own = [*_grid(points[-1], shared_bytes, start)]
    found = [each.through(points[-1], shared_bytes, start) for each in earlier]
    known = [each for each in found if each]
    total = sum(weight for weight, _ in own)
    share = 0.0 if not known else _EARLIER if own else 1.0
    every: list[tuple[float, Course, float]] = [
        *(((1 - share) * weight / total, curve, _NOISE) for weight, curve in own),
        *((share / len(known), each, _EARLIER_NOISE) for each in known),
    ]
    if not every:
        return []
    segments = _segments(points)
    logs = [math.log(w) - _misfit(curve, segments, start, noise) for w, curve, noise in every]
    best = max(logs)
    weights = [math.exp(each - best) for each in logs]
    total = sum(weights)
    return [
        (weight / total, curve)
        for weight, (_, curve, _) in zip(weights, every, strict=True)
        if weight > _NEGLIGIBLE
    ]


def as_earlier(points: Sequence[Point], shared_bytes: int) -> Earlier | None:
    """Of a fork that has ended, for later ones; None: there is too little to learn from."""
    start = _start(points)
    curves = [(w, curve) for w, curve in fitted(points, shared_bytes) if isinstance(curve, Curve)]
    kept = tuple((at, copied - start) for at, copied in points if at > 0 and copied > start)
    if not curves or not kept:
        return None
    return Earlier(kept, max(curves, key=lambda each: each[0])[1], shared_bytes)


def _start(points: Sequence[Point]) -> float:
    """Bytes that were copied at once, if that was looked at."""
    return points[0][1] if points and points[0][0] < _BURST_SECONDS else 0.0


def _left(tail: float, drawn: float) -> float:
    """The part of the pages that is not copied yet; `drawn`: r t."""
    return math.exp(-drawn) if tail >= _EVEN else (1 + drawn / tail) ** -tail


def _drawn(tail: float, left: float) -> float:
    """The inverse."""
    return -math.log(left) if tail >= _EVEN else tail * (left ** (-1 / tail) - 1)


@cache
def _shapes() -> tuple[tuple[float, float, float, float], ...]:
    """Weight, tail, part in tables, f t now."""
    return tuple(
        (a * b / (len(_TABLE_TIMES) if tables else 1), tail, tables, drawn)
        for tail, a in _TAIL.items()
        for tables, b in _TABLES.items()
        for drawn in (_TABLE_TIMES if tables else (1.0,))
    )


def _grid(point: Point, shared: int, start: float) -> Iterator[tuple[float, Curve]]:
    """The curves that lead to this point, with their weights a priori."""
    seconds, copied = point[0], point[1] - start
    soon = [copied / shared * often for often in _SOON]
    reaches = [*_REACH.items(), *((part, part**_LARGE) for part in soon if part < 1)]
    for weight, tail, tables, drawn in _shapes():
        table = tables * shared
        slowly = copied - table * (1 - math.exp(-drawn))
        if slowly < 0.02 * copied:
            continue
        for part, likely in reaches:
            slow = part * shared - table
            if slowly > 0.999 * slow:
                continue
            rate = _drawn(tail, 1 - slowly / slow) / seconds
            if tables and drawn / seconds < 2 * rate:
                continue  # the tables would be slower than the rest
            yield weight * likely, Curve(start, slow, rate, tail, table, drawn / seconds)


def _segments(points: Sequence[Point]) -> list[Point]:
    """The points that divide the time most evenly."""
    chosen: list[Point] = []
    rest = iter(points)
    point = next(rest)
    for number in range(1, _SEGMENTS + 1):
        until = points[-1][0] * number / _SEGMENTS
        while point[0] < until * 0.999:
            point = next(rest)
        if point[0] >= _BURST_SECONDS and (not chosen or point[0] > chosen[-1][0]):
            chosen.append(point)
    return chosen


def _misfit(course: Course, segments: Iterable[Point], start: float, noise: float) -> float:
    """-log of the likelihood. How much a segment's rate scatters is not known: Student's t."""
    squares, number = 0.0, 0
    before = expected_before = start
    for seconds, copied in segments:
        by_now = course.copied(seconds)
        expected = max(1.0, by_now - expected_before)
        ratio = max(copied - before, 0.05 * expected) / expected
        squares += math.log(ratio) ** 2 / (noise**2 + _PAGE / max(_PAGE, expected))
        number += 1
        before, expected_before = copied, by_now
    return (_FREEDOM + number) / 2 * math.log1p(squares / _FREEDOM)
