"""Make JSON objects of the answers of a recording, and of the comparison of two.

Fields are added, never renamed. A missing value is null.
"""

from __future__ import annotations

from typing import Any

from cowtrace.analysis.questions import answers, in_words
from cowtrace.analysis.questions.compare import Comparison
from cowtrace.analysis.questions.sums import contained
from cowtrace.recording import Recording


def report(recording: Recording, name: str) -> dict[str, Any]:
    """What `cowtrace report --json` writes."""
    header = recording.header
    found = answers(recording)
    return {
        "recording": name,
        "seconds": recording.seconds,
        "started_unix_ns": header.started_unix_ns,
        "command": header.command,
        "plan": header.plan,
        "kernel": header.kernel,
        "page_bytes": header.page_bytes,
        "closed": recording.closed,
        "ended": recording.ended,
        "in_words": in_words(found),
        "contained": [
            {"pid": pid, "nspid": place.nspid, "cgroup": place.cgroup}
            for pid, place in contained(recording).items()
        ],
        "answers": [
            {
                "number": answer.number,
                "question": answer.question,
                "note": answer.note,
                "measures": [
                    {
                        "name": measure.name,
                        "value": measure.value,
                        "unit": measure.unit.value,
                        "quality": measure.quality.value,
                        "faults": measure.faults,
                    }
                    for measure in answer.measures
                ],
            }
            for answer in found
        ],
    }


def diff(found: Comparison) -> dict[str, Any]:
    """What `cowtrace diff --json` writes."""
    return {
        "verdict": found.verdict,
        "doubts": list(found.doubts),
        "questions": [
            {
                "number": section.number,
                "question": section.question,
                "measures": [
                    {
                        "name": change.name,
                        "unit": change.unit.value,
                        "before": change.before,
                        "after": change.after,
                        "change": change.share,
                    }
                    for change in section.changes
                ],
            }
            for section in found.sections
        ],
    }
