"""JSON that a command wrote -> whether the schema that cowtrace ships knows all of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from cowtrace.machine import schema


def check(name: str, objects: Iterable[str | dict[str, Any]]) -> int:
    """Validate lines or objects of a command; how many there were.

    A field that the schema does not name is a failure too: it is to be documented.
    """
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    validator = jsonschema.Draft202012Validator(_strict(schema.of(name)))
    number = 0
    for each in objects:
        number += 1
        validator.validate(json.loads(each) if isinstance(each, str) else each)
    return number


def _strict(told: Any) -> Any:
    """The same, with no room for fields that it does not name."""
    if isinstance(told, list):
        return [_strict(each) for each in told]
    if not isinstance(told, dict):
        return told
    strict = {key: _strict(value) for key, value in told.items()}
    if "properties" in told and told.get("type") == "object":
        strict.setdefault("additionalProperties", False)
    return strict
