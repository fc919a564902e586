"""Check a Chrome trace against the rules of the Trace Event Format, and read it back.

What a viewer does with it: slices by thread, arrows bound to the slices around both ends, counters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

# Beside ph and name: what an event of each kind must have.
REQUIRED = {
    "M": {"pid", "args"},
    "X": {"pid", "tid", "ts", "dur"},
    "i": {"pid", "tid", "ts", "s"},
    "s": {"pid", "tid", "ts", "id", "cat"},
    "f": {"pid", "tid", "ts", "id", "cat", "bp"},
    "C": {"pid", "ts", "args"},
}
METADATA = {"process_name": str, "thread_name": str, "process_sort_index": int}


@dataclass
class Shown:
    """What a viewer shows."""

    names: dict[int, str] = field(default_factory=dict)  # of processes, by pid
    slices: dict[int, dict[str, Any]] = field(default_factory=dict)  # by pid; one each
    instants: list[tuple[int, str, float]] = field(default_factory=list)  # pid, name, ts
    arrows: list[tuple[int, int, float]] = field(default_factory=list)  # from, to, ts
    counters: dict[tuple[int, str], list[tuple[float, int]]] = field(default_factory=dict)


def shown(text: str) -> Shown:
    """Raises AssertionError: it breaks a rule."""
    whole = json.loads(text, parse_constant=lambda word: 1 / 0)
    assert whole["displayTimeUnit"] in ("ms", "ns")
    found = Shown()
    open_arrows: dict[tuple[str, int], dict[str, Any]] = {}
    for event in whole["traceEvents"]:
        kind = event["ph"]
        assert REQUIRED[kind] <= event.keys(), event
        assert type(event["pid"]) is int
        assert 0 <= event["pid"] < 1 << 31
        assert isinstance(event["name"], str)
        if kind != "M":
            assert isinstance(event["ts"], (int, float))
            assert event["ts"] >= 0
        if kind == "M":
            (value,) = event["args"].values()
            assert type(value) is METADATA[event["name"]]
            if event["name"] == "process_name":
                assert event["pid"] not in found.names
                found.names[event["pid"]] = str(value)
        elif kind == "X":
            assert event["pid"] not in found.slices
            assert event["dur"] > 0
            found.slices[event["pid"]] = event
        elif kind == "i":
            assert event["s"] in "gpt"
            _enclosing(found, event)
            found.instants.append((event["pid"], event["name"], event["ts"]))
        elif kind == "s":
            assert (event["cat"], event["id"]) not in open_arrows
            open_arrows[event["cat"], event["id"]] = _enclosing(found, event)
        elif kind == "f":
            assert event["bp"] == "e"
            start = open_arrows.pop((event["cat"], event["id"]))
            found.arrows.append((start["pid"], _enclosing(found, event)["pid"], event["ts"]))
        elif kind == "C":
            (value,) = event["args"].values()
            assert type(value) is int
            values = found.counters.setdefault((event["pid"], event["name"]), [])
            assert not values or values[-1][0] < event["ts"]  # a step in time has one value
            values.append((event["ts"], value))
    assert not open_arrows
    assert found.names.keys() == found.slices.keys()
    return found


def _enclosing(found: Shown, event: dict[str, Any]) -> dict[str, Any]:
    """The slice around an event, in its thread and before it in the file."""
    around = found.slices[event["pid"]]
    assert around["tid"] == event["tid"]
    assert around["ts"] <= event["ts"] <= around["ts"] + around["dur"], (around, event)
    return around
