"""Validate the JSON that a command wrote against the schema that cowtrace ships."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from cowtrace.machine import schema


def check(name: str, objects: Iterable[str | dict[str, Any]]) -> int:
    """Validate lines or objects of a command; return how many.

    A field that the schema does not name is a failure too: it must be documented.
    """
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    validator = jsonschema.Draft202012Validator(_strict(schema.of(name)))
    number = 0
    for each in objects:
        number += 1
        validator.validate(json.loads(each) if isinstance(each, str) else each)
    return number


def _strict(node: Any) -> Any:
    """The same schema, which rejects fields that it does not name."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    strict = {key: _strict(value) for key, value in node.items()}
    if "properties" in node and node.get("type") == "object":
        strict.setdefault("additionalProperties", False)
    return strict
