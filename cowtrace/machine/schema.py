"""Load the JSON Schema of what commands write with --json: of one command, or of all."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

_WHOLE: dict[str, Any] = json.loads(
    (resources.files("cowtrace.machine") / "schema.json").read_text()
)
NAMES = tuple(sorted(each["$ref"].rpartition("/")[2] for each in _WHOLE["anyOf"]))


def of(name: str | None = None) -> dict[str, Any]:
    """The schema of one command's objects, or of all commands'. Draft 2020-12."""
    if name is None:
        return _WHOLE
    return {
        **{key: value for key, value in _WHOLE.items() if key != "anyOf"},
        "$ref": f"#/$defs/{name}",
        "$defs": _WHOLE["$defs"],
    }
