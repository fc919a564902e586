"""Make JSON objects of the answers of a recording, and of the comparison of two.

Fields are added, never renamed. A missing value is null.
"""

from __future__ import annotations

from typing import Any

from cowtrace.analysis.questions import answers, in_words
from cowtrace.analysis.questions.compare import Comparison
from cowtrace.analysis.questions.sums import contained
from cowtrace.machine.objects import fields
from cowtrace.recording import Recording


def report(recording: Recording, name: str) -> dict[str, Any]:
    """What `cowtrace report --json` writes."""
    header = recording.header
    found = answers(recording)
    return {
        "recording": name,
        "seconds": recording.seconds,
        "recorded_seconds": recording.recorded_seconds,
        "started_unix_ns": header.started_unix_ns,
        "command": header.command,
        **fields(header, "plan", "kernel", "page_bytes"),
        **fields(recording, "closed", "ended"),
        "in_words": in_words(found),
        "contained": [
            {"pid": pid, **fields(place, "nspid", "cgroup")}
            for pid, place in contained(recording).items()
        ],
        "answers": [
            {
                **fields(answer, "number", "question", "note"),
                "measures": [
                    {
                        **fields(measure, "name", "value"),
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
                **fields(section, "number", "question"),
                "measures": [
                    {
                        "name": change.name,
                        "unit": change.unit.value,
                        **fields(change, "before", "after"),
                        "change": change.share,
                    }
                    for change in section.changes
                ],
            }
            for section in found.sections
        ],
    }
