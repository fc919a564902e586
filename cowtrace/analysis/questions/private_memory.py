"""Sum where the private memory of all processes came from."""

from __future__ import annotations

from cowtrace.analysis.questions.answer import Answer, Measure, Quality, Unit, unrecorded
from cowtrace.model.private_memory import COPIED, TOUCHED_AGAIN, UNEXPLAINED
from cowtrace.recording import Recording

_MOVED = "changed while it was read"  # by so much a row can be wrong
DETAIL = "private-memory"  # as it is called among the details of a recording


def private_memory(recording: Recording) -> Answer:
    """11: copies, and all else that made memory private, or took it away."""
    question = "Where did private memory come from?"
    if missing := unrecorded(recording, DETAIL, "private memory"):
        return Answer(11, question, missing, "To record it: cowtrace record --private.")
    accounts = recording.last.accounts
    rows = [one.rows for one in accounts]
    found = [Measure("at the start", sum(one.began for one in accounts), Unit.BYTES, Quality.EXACT)]
    for label in rows[0] if rows else ():
        if (value := sum(each[label] for each in rows)) or label in (COPIED, UNEXPLAINED):
            found.append(Measure(label, value, Unit.BYTES, _quality(label)))
    if moved := sum(one.moved for one in accounts):
        found.append(Measure(_MOVED, moved, Unit.BYTES, Quality.UPPER_BOUND, aside=True))
    now = sum(one.left for one in accounts)
    found.append(Measure("private memory, in all", now, Unit.BYTES, Quality.EXACT))
    return Answer(11, question, tuple(found), None if accounts else "No process was read.")


def _quality(label: str) -> Quality:
    if label == COPIED:
        return Quality.UPPER_BOUND
    return Quality.LOWER_BOUND if label == TOUCHED_AGAIN else Quality.EXACT
