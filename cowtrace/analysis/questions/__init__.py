"""Answer ten questions about memory growth after fork from a recording."""

from __future__ import annotations

from cowtrace.analysis.questions.answer import Answer
from cowtrace.analysis.questions.causes import MOST, by_code, by_mapping, by_source, latency
from cowtrace.analysis.questions.sums import by_whom, how_much, risk, speed, trust
from cowtrace.analysis.stacks import Node
from cowtrace.recording import Recording

COMPARE = "record both, then: cowtrace diff BEFORE AFTER"


def answers(
    recording: Recording, most: int | None = MOST, tree: Node | None = None
) -> tuple[Answer, ...]:
    """All ten, in the order of their numbers; lists of mappings and functions cut to `most`.

    `tree`: of the samples, if the caller has built it.
    """
    return (
        how_much(recording),
        by_whom(recording),
        by_mapping(recording, most),
        by_code(recording, most, tree),
        speed(recording),
        Answer(6, "Did my fix help?", (), COMPARE),
        by_source(recording),
        latency(recording),
        risk(recording),
        trust(recording),
    )
