"""Compute how fast copies came, and whether they level off."""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import NamedTuple

from cowtrace.analysis.questions.answer import (
    Answer,
    Measure,
    Quality,
    Unit,
    amount,
    copied_bytes,
    copies,
)
from cowtrace.model import COPIES
from cowtrace.numbers import duration, percent
from cowtrace.recording import Recording

_LEVEL = 1 / 8  # of all copies: with less in the last quarter of the time, they are levelling off
_LEAST_INTERVALS = 8  # for a quarter to mean something
_BLOCKS = "▁▂▃▄▅▆▇█"
_CELLS = 40


def speed(recording: Recording) -> Answer:
    """5: how fast, whether it levels off, and the share of the sharing that is lost."""
    accuracy = copies(recording)
    copied = copied_bytes(recording)
    found = []
    if recording.seconds > 0:
        mean = copied / recording.seconds
        found.append(Measure("mean", mean, Unit.BYTES_PER_SECOND, accuracy))
        traced_ns = recording.ended_ns - recording.began_ns
        found.append(Measure("traced time, of the mean", traced_ns, Unit.NS, Quality.EXACT))
    if intervals := _intervals(recording):
        fastest = max(each.rate for each in intervals)
        found.append(Measure("fastest interval", fastest, Unit.BYTES_PER_SECOND, accuracy))
    last = _last_quarter(recording)
    if last is not None and copied:
        found.append(Measure("share of it in the last quarter", last, Unit.SHARE, accuracy))
    lost = [g.share_lost for g in recording.last.generations if g.share_lost is not None]
    if lost:
        name = "sharing lost, most of any fork"
        found.append(Measure(name, max(lost), Unit.SHARE, Quality.UPPER_BOUND))
    return Answer(5, "How fast, and is it levelling off?", tuple(found), _trend(last, copied))


def pace(recording: Recording) -> str | None:
    """`▁▁▃█▂ 0 to 1.16 MiB/s, a block: 1.00 s`, from start to end; None: too short."""
    cells = _resampled(recording)
    highest = max(cells, default=0)
    if len(cells) < 2 or not highest:
        return None
    top = len(_BLOCKS) - 1
    # Round up: a part with any copies stands above one without.
    drawn = "".join(_BLOCKS[min(top, max(0, ceil(rate / highest * top)))] for rate in cells)
    block = duration((recording.ended_ns - recording.began_ns) / len(cells))
    return f"{drawn} 0 to {amount(highest, Unit.BYTES_PER_SECOND)}, a block: {block}"


class _Interval(NamedTuple):
    """What came in an interval: the part of it that is in the traced time."""

    began_ns: int
    ended_ns: int
    bytes: int

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.bytes * 1e9 / (self.ended_ns - self.began_ns)


def _intervals(recording: Recording) -> list[_Interval]:
    """Those between two times of points, without gaps, from the start to the end of the traced
    time. What was copied outside of it, as by a command's descendants, is in the nearest one.
    """
    sums = Counter[int]()
    for point in recording.points:
        if point.kind in COPIES:
            sums[point.at_ns] += point.bytes
    found: list[_Interval] = []
    before, early = recording.began_ns, 0
    for at in recording.ends:
        end = min(at, recording.ended_ns)
        if end > before:
            found.append(_Interval(before, end, early + sums[at]))
            before, early = end, 0
        elif found:
            found[-1] = found[-1]._replace(bytes=found[-1].bytes + sums[at])
        else:
            early += sums[at]
    return found


def _resampled(recording: Recording) -> list[float]:
    """The mean rates of equal parts of the time: intervals can differ in length."""
    found = _intervals(recording)
    began, ended = recording.began_ns, recording.ended_ns
    if ended <= began:
        return []
    cells = min(_CELLS, len(found))
    step = (ended - began) / max(1, cells)
    sums = [0.0] * cells
    for each in found:
        first, last = (each.began_ns - began) / step, (each.ended_ns - began) / step
        for cell in range(int(first), min(cells, int(last) + 1)):
            sums[cell] += each.rate * max(0.0, min(last, cell + 1) - max(first, cell))
    return sums


def _last_quarter(recording: Recording) -> float | None:
    """The share of all copies that came in the last quarter of the time; None: too short."""
    if len(recording.times) < _LEAST_INTERVALS:
        return None
    since = recording.ended_ns - (recording.ended_ns - recording.began_ns) // 4
    made = [point for point in recording.points if point.kind in COPIES]
    total = sum(point.bytes for point in made)
    return sum(p.bytes for p in made if p.at_ns > since) / total if total else None


def _trend(last: float | None, copied: int) -> str:
    if not copied:
        return "Nothing was copied."
    if last is None:
        return "Too few intervals to say whether it is levelling off."
    if last < _LEVEL:
        return f"Levelling off: the last quarter of the time brought {percent(last)} of the copies."
    return f"Not levelling off: the last quarter brought {percent(last)} of the copies."
