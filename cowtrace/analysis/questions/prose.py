"""Summarise the answers in two or three sentences, and the copy rate as a line of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from cowtrace.analysis.questions.answer import Answer, Measure, Unit, amount
from cowtrace.analysis.questions.sums import rates
from cowtrace.numbers import duration, percent
from cowtrace.recording import Recording

_BLOCKS = "▁▂▃▄▅▆▇█"
_CELLS = 40


def in_words(found: Sequence[Answer]) -> str:
    """By whom, where, by which code, where it is heading; what was not recorded is left out.

    `found` are all ten answers, in their order.
    """
    return " ".join(_sentences(found))


def _sentences(found: Sequence[Answer]) -> Iterator[str]:
    copied = found[0].measures[0].value
    if not copied:
        yield "Nothing was copied."
        return
    parts = []
    for answer, word in ((found[1], "by side"), (found[2], "by mapping"), (found[3], "by code")):
        most = _most(answer)
        if most and most.value:
            share = percent(min(1.0, most.value / copied))
            # Samples are estimates: their sums can be a little above what was counted.
            about = "about " if answer.number == 4 else ""
            parts.append(f"{word}: {most.phase or most.name} ({about}{share})")
    if parts:
        yield f"The largest parts {'; '.join(parts)}."
    if found[4].note:
        yield found[4].note
    worst = found[8].measures[1]
    if worst.value:
        left = found[8].measures[2:3]
        against = f"; {left[0].text} of memory is available" if left else ""
        yield f"At most {worst.text} may still be copied{against}."


def _most(answer: Answer) -> Measure | None:
    """The largest part. Of code: the phase, if one is known and no function copied more."""
    parts = (measure for measure in answer.measures if not (measure.one_off or measure.aside))
    held = [measure for measure in parts if measure.value and measure.unit is Unit.BYTES]
    held.sort(key=lambda measure: measure.phase is None)
    return max(held, key=lambda measure: measure.value or 0, default=None)  # the first of equals


def pace(recording: Recording) -> str | None:
    """`▁▁▃█▂ 0 to 1.16 MiB/s, a block: 1.00 s`, from start to end; None: too short."""
    cells = _resampled(recording)
    highest = max(cells, default=0)
    if len(cells) < 2 or not highest:
        return None
    top = len(_BLOCKS) - 1
    # Up, not to the nearest: what copied at all stands above what copied nothing.
    drawn = "".join(_BLOCKS[min(top, max(0, ceil(rate / highest * top)))] for rate in cells)
    block = duration((recording.last.at_ns - recording.last.attached_ns) / len(cells))
    return f"{drawn} 0 to {amount(highest, Unit.BYTES_PER_SECOND)}, a block: {block}"


def _resampled(recording: Recording) -> list[float]:
    """The mean rates of equal parts of the time, as intervals need not be equal."""
    found = rates(recording)
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
