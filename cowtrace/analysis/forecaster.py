"""Remember what forks copied over time, and forecast those whose child lives."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cowtrace.analysis.copy_curves import Earlier, Point, as_earlier
from cowtrace.analysis.forecast import Clock, Forecast, forecast, of_ended
from cowtrace.model import ForkGeneration, Snapshot

_MOST_POINTS = 128  # of a fork; then every other is dropped
_MOST_FORKS = 16  # that are forecast: those that copied most; some 10 ms each
_LEAST_BYTES = 64 * 4096  # copied; less is what fork and exit take by themselves
_EARLIER = 3  # forks of a parent that are remembered
_MOST_PARENTS = 256
_TICK_SECONDS = 0.25  # how late a reading of progress is, more or less
_ENDS_DIFFER = 0.1  # how much earlier forks of a parent differ in time


@dataclass(frozen=True, slots=True)
class Progress:
    """What a child has done."""

    done: float  # 0 to 1
    work: float | None = None  # a counter that grows with what the writers do, in any unit


@dataclass(slots=True)
class _Seen:
    """A fork, as it was looked at. Times in seconds since the fork."""

    points: list[tuple[float, int, float | None]] = field(default_factory=list)  # bytes, work
    ticks: list[Point] = field(default_factory=list)  # progress, when it was first seen

    def add(self, seconds: float, copied: int, progress: Progress | None) -> None:
        last = self.points[-1] if self.points else (0.0, 0, None)
        if seconds <= last[0] or copied < last[1]:
            return
        self.points.append((seconds, copied, progress.work if progress else None))
        if len(self.points) > _MOST_POINTS:
            self.points[1:-1] = self.points[2:-1:2]
        if progress and progress.done > (self.ticks[-1][1] if self.ticks else 0.0):
            self.ticks.append((seconds, min(1.0, progress.done)))
            if len(self.ticks) > _MOST_POINTS:
                self.ticks[1:-1] = self.ticks[2:-1:2]


@dataclass(frozen=True, slots=True)
class _Past:
    """What is remembered of forks of one parent, the newest last."""

    courses: tuple[Earlier, ...] = ()
    seconds: tuple[float, ...] = ()  # that they lasted
    totals: tuple[int, ...] = ()  # bytes copied


class Forecaster:
    """Note each snapshot of a tracer; forecast when that is wanted."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}  # by number of the fork
        self._past: dict[int, _Past] = {}  # by PID of the parent

    def note(self, now: Snapshot, progress: Mapping[int, Progress] | None = None) -> None:
        """Remember what was copied by now. `progress`: by PID of the child or of its parent."""
        found = progress or {}
        known = _known(now)
        for each in known:
            if each.ended_ns is None or each.number in self._seen:
                done = found.get(each.child) or found.get(each.parent)
                until = now.at_ns if each.ended_ns is None else each.ended_ns
                seen = self._seen.setdefault(each.number, _Seen())
                seen.add((until - each.at_ns) / 1e9, each.copied_bytes, done)
            if each.ended_ns is not None:
                self._learn(each)
        current = {each.number for each in known}
        self._seen = {number: self._seen[number] for number in self._seen.keys() & current}

    def forecasts(self, now: Snapshot) -> dict[int, Forecast]:
        """Of the forks of the snapshot that was noted last, by number.

        One that is missing has copied too little yet, or the memory that it shared is unknown.
        """
        return dict(self._forecasts(_known(now)))

    def earlier_totals(self, parent: int) -> tuple[int, ...]:
        """Bytes that the last forks of a parent copied which have ended, the newest last."""
        return self._past.get(parent, _Past()).totals

    def _forecasts(self, generations: Sequence[ForkGeneration]) -> Iterable[tuple[int, Forecast]]:
        live = [g for g in generations if g.ended_ns is None and g.copied_bytes >= _LEAST_BYTES]
        for each in heapq.nlargest(_MOST_FORKS, live, key=lambda g: g.copied_bytes):
            seen, past = self._seen[each.number], self._past.get(each.parent, _Past())
            points, speed = _by_work(seen.points)
            end = _end(seen.ticks, past.seconds)
            clock = Clock(end[0], end[1], speed) if end else Clock(None, speed=speed)
            if made := forecast(points, each.shareable_bytes or 0, clock, past.courses):
                yield each.number, made
        for each in generations:
            if each.ended_ns is not None:
                yield each.number, of_ended(each.copied_bytes)

    def _learn(self, ended: ForkGeneration) -> None:
        """Once."""
        seen = self._seen.pop(ended.number, None)
        if seen is None or ended.copied_bytes < _LEAST_BYTES or ended.ended_ns is None:
            return
        points, _ = _by_work(seen.points)
        course = as_earlier(points, ended.shareable_bytes or 0)
        past = self._past.pop(ended.parent, _Past())
        self._past[ended.parent] = _Past(
            (*past.courses, *((course,) if course else ()))[-_EARLIER:],
            (*past.seconds, (ended.ended_ns - ended.at_ns) / 1e9)[-_EARLIER:],
            (*past.totals, ended.copied_bytes)[-_EARLIER:],
        )
        while len(self._past) > _MOST_PARENTS:
            del self._past[next(iter(self._past))]


def _known(now: Snapshot) -> list[ForkGeneration]:
    return [generation for generation in now.generations if generation.shareable_bytes]


def _by_work(points: Sequence[tuple[float, int, float | None]]) -> tuple[list[Point], float]:
    """The points in seconds of even work, and how fast work is done now, against the mean.

    Writers seldom work evenly. Where their work is not known, time stands for it.
    """
    plain = [(seconds, float(copied)) for seconds, copied, _ in points]
    known = [(seconds, work) for seconds, _, work in points if work is not None]
    if len(known) < 3 or known[-1][1] <= known[0][1] or known[-1][0] <= known[0][0]:
        return plain, 1.0
    (began, first), (last, total) = known[0], known[-1]
    rate = (total - first) / (last - began)
    evened: list[Point] = []
    for seconds, copied, work in points:
        at = seconds if work is None else began + (work - first) / rate
        if not evened or at > evened[-1][0]:
            evened.append((at, float(copied)))
    half = next(each for each in known if each[0] >= (began + last) / 2)
    if half[0] >= last:
        return evened, 1.0
    return evened, (total - half[1]) / (last - half[0]) / rate


def _end(ticks: Sequence[Point], earlier: Sequence[float]) -> tuple[float, float] | None:
    """When the child ends, in seconds since the fork, and by how much of it that may be wrong."""
    guesses: list[tuple[float, float]] = []
    if len(ticks) > 1:
        # A reading tells what was done some time before: always the same, so that it drops out.
        (began, first), (last, done) = ticks[0], ticks[-1]
        end = last + (1 - done) * (last - began) / (done - first)
        guesses.append((end, 0.05 + _TICK_SECONDS / (last - began)))
    elif ticks and ticks[0][1] > 0.01:
        seconds, done = ticks[0]
        guesses.append((seconds / done, 0.3))
    if earlier:
        mean = sum(earlier) / len(earlier)
        guesses.append((mean, _ENDS_DIFFER))
    if not guesses:
        return None
    weights = [spread**-2 for _, spread in guesses]
    end = sum(w * end for w, (end, _) in zip(weights, guesses, strict=True)) / sum(weights)
    return end, sum(weights) ** -0.5
