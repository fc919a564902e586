"""Sum what the writes that copied pages changed in CPython's memory."""

from __future__ import annotations

from collections import Counter

from cowtrace.analysis.objects import object_rows, remedies
from cowtrace.analysis.questions.answer import Answer, Measure, Quality, Unit, unrecorded
from cowtrace.recording import Recording
from cowtrace.text import printable

DETAIL = "objects"  # as it is called among the details of a recording


def written(recording: Recording, most: int | None) -> Answer:
    """12: causes; the `most` largest types and phases; what would avoid copies."""
    question = "What was written, of which type?"
    if missing := unrecorded(recording, DETAIL, "what was written"):
        return Answer(12, question, missing, "To record it: cowtrace record --objects.")
    rows = object_rows(recording.last.samples)
    causes, types, phases = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        causes[row.cause.value] += row.bytes
        if row.type is not None:
            types[f"{row.cause.value} of {printable(row.type)}"] += row.bytes
        phases[f"phase: {row.phase.value if row.phase else 'unknown'}"] += row.bytes
    found = [Measure(name, n, Unit.BYTES, Quality.ESTIMATE) for name, n in causes.most_common()]
    for sums in (types, phases):
        found += [
            Measure(name, n, Unit.BYTES, Quality.ESTIMATE, aside=True)
            for name, n in sums.most_common(most)
        ]
    found += [
        Measure(
            f"avoided by {each.change}", each.bytes, Unit.BYTES, Quality.UPPER_BOUND, aside=True
        )
        for each in remedies(rows)
    ]
    note = "From samples of the copies. A copy counts for the first write to its page."
    return Answer(12, question, tuple(found), note if found else "Nothing was copied.")
