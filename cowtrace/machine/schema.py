"""The JSON Schema of what commands write with --json: schema.json, whole or of one command."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

NAMES = (
    "diff",
    "doctor",
    "forks",
    "latency",
    "maps",
    "report",
    "run",
    "snoop",
    "stacks",
    "top",
    "top-by-cgroup",
    "verify",
    "verify-list",
    "vm-list",
    "workload",
    "workload-list",
)


def of(name: str | None = None) -> dict[str, Any]:
    """Draft 2020-12. Of the objects of one command, or of any."""
    text = (resources.files("cowtrace.machine") / "schema.json").read_text()
    whole: dict[str, Any] = json.loads(text)
    if name is None:
        return whole
    return {
        **{key: whole[key] for key in ("$schema", "title", "description")},
        "$ref": f"#/$defs/{name}",
        "$defs": whole["$defs"],
    }
