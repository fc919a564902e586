"""Write a tree of calls for other viewers: as folded stacks, or as a speedscope file."""

from __future__ import annotations

import json
from typing import TextIO

from cowtrace import __version__
from cowtrace.analysis.stacks import Call, Node, leaves


def write_folded(stream: TextIO, root: Node) -> None:
    """Write a line for each stack, the input of flamegraph.pl; the largest of a branch first.

    The process name and the calls, the outermost first, joined by `;`, then a space and the bytes
    copied.
    """
    for calls, copied in leaves(root):
        names = ";".join(call.label.replace(";", "\\x3b") for call in calls)
        stream.write(f"{names} {copied}\n")


def write_speedscope(stream: TextIO, root: Node, title: str) -> None:
    """Write one JSON object with a sampled profile for each process name; weights are bytes copied.

    See speedscope's file-format-spec.ts for the fields.
    """
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
    whole = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": f"cowtrace@{__version__}",
        "name": title,
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(call) for call in numbers]},
        "profiles": profiles,
    }
    stream.write(json.dumps(whole) + "\n")


def _frame(call: Call) -> dict[str, str]:
    return {"name": call.name, "file": call.module} if call.module else {"name": call.name}
