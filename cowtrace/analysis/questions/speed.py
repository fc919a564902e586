"""Compute how fast copies came, and whether they level off."""

from __future__ import annotations

from collections import Counter
from math import ceil

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
    if found_rates := _rates(recording):
        fastest = max(rate for _, rate in found_rates)
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
    block = duration((recording.last.at_ns - recording.last.attached_ns) / len(cells))
    return f"{drawn} 0 to {amount(highest, Unit.BYTES_PER_SECOND)}, a block: {block}"


def _rates(recording: Recording) -> list[tuple[int, float]]:
    """(CLOCK_MONOTONIC, bytes copied a second until then), for each time of a point."""
    sums = Counter[int]()
    for point in recording.points:
        if point.kind in COPIES:
            sums[point.at_ns] += point.bytes
    starts = (recording.last.attached_ns, *recording.ends[:-1])
    return [
        (end, sums[end] / max(1e-9, (end - start) / 1e9))
        for start, end in zip(starts, recording.ends, strict=False)
    ]


def _resampled(recording: Recording) -> list[float]:
    """The mean rates of equal parts of the time: intervals can differ in length."""
    found = _rates(recording)
    began, ended = recording.last.attached_ns, recording.last.at_ns
    if ended <= began:
        return []
    cells = min(_CELLS, len(found))
    step = (ended - began) / max(1, cells)
    sums = [0.0] * cells
    before = began
    for at, rate in found:
        first, last = (before - began) / step, (at - began) / step
        for cell in range(int(first), min(cells, int(last) + 1)):
            sums[cell] += rate * max(0.0, min(last, cell + 1) - max(first, cell))
        before = at
    return sums


def _last_quarter(recording: Recording) -> float | None:
    """The share of all copies that came in the last quarter of the time; None: too short."""
    if len(recording.times) < _LEAST_INTERVALS:
        return None
    since = recording.last.at_ns - (recording.last.at_ns - recording.last.attached_ns) // 4
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
