"""Answer twelve questions about memory growth after fork from a recording, and summarise them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cowtrace.analysis.questions.answer import Answer, Measure, Unit
from cowtrace.analysis.questions.causes import MOST, by_code, by_mapping, by_source, latency
from cowtrace.analysis.questions.private_memory import private_memory
from cowtrace.analysis.questions.speed import speed
from cowtrace.analysis.questions.sums import by_whom, how_much, risk, trust
from cowtrace.analysis.questions.written import written
from cowtrace.analysis.stacks import Node
from cowtrace.numbers import percent
from cowtrace.recording import Recording


def answers(
    recording: Recording, most: int | None = MOST, tree: Node | None = None
) -> tuple[Answer, ...]:
    """All answers by number; lists of mappings and functions are cut to `most`.

    `tree`: of the samples, if the caller has built it.
    """
    return (
        how_much(recording),
        by_whom(recording),
        by_mapping(recording, most),
        by_code(recording, most, tree),
        speed(recording),
        Answer(6, "Did my fix help?", (), "record both, then: cowtrace diff BEFORE AFTER"),
        by_source(recording),
        latency(recording),
        risk(recording),
        trust(recording),
        private_memory(recording),
        written(recording, most),
    )


def in_words(found: Sequence[Answer]) -> str:
    """Two or three sentences of all answers: by whom, where, by which code, what may come.

    What was not recorded is left out.
    """
    return " ".join(_sentences(found))


def _sentences(found: Sequence[Answer]) -> Iterator[str]:
    copied = found[0].measures[0].value
    if not copied:
        yield "Nothing was copied."
        return
    parts = []
    for answer, word in ((found[1], "by side"), (found[2], "by mapping"), (found[3], "by code")):
        largest = _largest(answer)
        if largest and largest.value:
            share = percent(min(1.0, largest.value / copied))
            # Samples are estimates: their sum can exceed what was counted.
            about = "about " if answer.number == 4 else ""
            parts.append(f"{word}: {largest.phase or largest.name} ({about}{share})")
    if parts:
        yield f"The largest parts {'; '.join(parts)}."
    if found[4].note:
        yield found[4].note
    worst, *system = found[8].measures[1:]
    if worst.value:
        against = f"; {system[0].text} of memory is available" if system else ""
        yield f"At most {worst.text} may still be copied{against}."


def _largest(answer: Answer) -> Measure | None:
    """The largest part. Of code: the phase, if one is known and no function copied more."""
    parts = (measure for measure in answer.measures if not (measure.one_off or measure.aside))
    held = [measure for measure in parts if measure.value and measure.unit is Unit.BYTES]
    held.sort(key=lambda measure: measure.phase is None)
    return max(held, key=lambda measure: measure.value or 0, default=None)  # the first of equals
