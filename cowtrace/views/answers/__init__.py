"""A recording -> the ten questions of those who fight memory growth after fork, answered."""

from __future__ import annotations

from cowtrace.recording.values import Recording
from cowtrace.views.answers.causes import MOST, by_code, by_mapping, by_source, latency
from cowtrace.views.answers.sums import by_whom, how_much, risk, speed, trust
from cowtrace.views.answers.values import Answer
from cowtrace.views.stack_tree import Node

COMPARE = "record both, then: cowtrace diff BEFORE AFTER"


def answers(
    recording: Recording, most: int | None = MOST, tree: Node | None = None
) -> tuple[Answer, ...]:
    """All ten, in the order of their numbers; lists of mappings and functions cut to `most`.

    `tree`: that of the samples, where it is known already.
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
