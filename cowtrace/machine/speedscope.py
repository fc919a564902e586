"""Write a tree of calls as a speedscope file: one sampled profile for each process name."""

from __future__ import annotations

import json
from typing import Any, TextIO

from cowtrace import __version__
from cowtrace.analysis.stacks import Call, Node, leaves

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def write(stream: TextIO, root: Node, title: str) -> None:
    """One JSON object; weights are bytes copied."""
    json.dump(as_object(root, title), stream)
    stream.write("\n")


def as_object(root: Node, title: str) -> dict[str, Any]:
    """See speedscope's file-format-spec.ts for the fields."""
    numbers: dict[Call, int] = {}
    profiles = []
    for process in sorted(root.children.values(), key=lambda node: -node.total_bytes):
        samples, weights = [], []
        for calls, copied in leaves(process):
            samples.append([numbers.setdefault(call, len(numbers)) for call in calls])
            weights.append(copied)
        profiles.append(
            {
                "type": "sampled",
                "name": process.call.name,
                "unit": "bytes",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": samples,
                "weights": weights,
            }
        )
    return {
        "$schema": SCHEMA,
        "exporter": f"cowtrace@{__version__}",
        "name": title,
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(call) for call in numbers]},
        "profiles": profiles,
    }


def _frame(call: Call) -> dict[str, str]:
    return {"name": call.name, "file": call.module} if call.module else {"name": call.name}
