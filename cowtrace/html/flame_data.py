"""Choose the calls of a flame graph, and write them as JSON that is safe inside a page."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from cowtrace.analysis.stacks import WRITTEN, Call, Node

_T = TypeVar("_T")

LEAST = 1 / 2000  # of all bytes: a call with less would be too narrow to see
DEEPEST = 200  # levels of calls
MOST = 20_000  # calls: a browser draws them in a few seconds
_LONGEST = 400  # characters of a name: those of C++ templates can be much longer
_MODULES = ("#e8743b", "#f2a541", "#d9534f", "#f6c667", "#c96b4b", "#eb9486", "#f3b562", "#d98e73")
_KERNEL, _PYTHON, _OTHER, _ROOT = "#8c9cc4", "#6aa86f", "#c9c3b8", "#e6e1d6"
_WRITTEN = "#b79bd6"

# In a <script>, `</script>` and `<!--` mean something; U+2028 and U+2029 end lines of JavaScript.
_ESCAPED = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Frame:
    """A box of the graph: a call, or several that are too small to be drawn one by one."""

    caller: int  # index of a frame before it; -1: none
    name: str
    module: str
    colour: str
    total_bytes: int
    self_bytes: int
    copies: int


@dataclass(slots=True)
class FlameData:
    """The frames of a graph, each after its caller, and what was left out."""

    frames: list[Frame] = field(default_factory=list)
    levels: int = 0  # callers of the deepest frame, and itself
    cut_calls: int = 0  # whose callers are drawn and they are not
    cut_bytes: int = 0  # copied in them and in their callees


def flame_data(root: Node) -> FlameData:
    """Take the largest calls first, until MOST; none below LEAST of all bytes or DEEPEST.

    Calls of one caller that were not taken become one frame, if that is wide enough to see.
    """
    found = FlameData()
    least = max(1, root.total_bytes * LEAST)
    order = count()  # distinguishes calls of one size: nodes cannot be compared
    rest = [(-root.total_bytes, next(order), root, -1, 0)]
    taken: list[tuple[Node, int]] = []  # with the depth
    left_out: dict[int, list[Node]] = {}  # by the caller's index
    while rest:
        _, _, node, caller, depth = heapq.heappop(rest)
        if len(taken) == MOST:
            left_out.setdefault(caller, []).append(node)
            continue
        number = len(taken)
        taken.append((node, depth))
        found.frames.append(_frame(node, caller, depth))
        for child in node.children.values():
            if depth < DEEPEST and child.total_bytes >= least:
                heapq.heappush(rest, (-child.total_bytes, next(order), child, number, depth + 1))
            else:
                left_out.setdefault(number, []).append(child)
    found.levels = 1 + max(depth for _, depth in taken)
    for caller, nodes in left_out.items():
        together = _together(nodes, caller, deep=taken[caller][1] == DEEPEST)
        found.cut_calls += len(nodes)
        found.cut_bytes += together.total_bytes
        if together.total_bytes >= least:
            found.frames.append(together)
            found.levels = max(found.levels, taken[caller][1] + 2)
    return found


def as_json(data: FlameData) -> str:
    """Columns of numbers, and each call once: JSON that may stand inside a <script>.

    Calls are [name, index of the module, index of the colour].
    """
    frames = data.frames
    calls = _numbered((frame.name, frame.module, frame.colour) for frame in frames)
    modules = _numbered(module for _, module, _ in calls)
    colours = _numbered(colour for _, _, colour in calls)
    whole = {
        "modules": list(modules),
        "colours": list(colours),
        "calls": [[name, modules[module], colours[colour]] for name, module, colour in calls],
        "call": [calls[frame.name, frame.module, frame.colour] for frame in frames],
        "caller": [frame.caller for frame in frames],
        "total": [frame.total_bytes for frame in frames],
        "self": [frame.self_bytes for frame in frames],
        "copies": [frame.copies for frame in frames],
    }
    return json.dumps(whole, separators=(",", ":")).translate(_ESCAPED)


def _numbered(things: Iterable[_T]) -> dict[_T, int]:
    return {thing: number for number, thing in enumerate(dict.fromkeys(things))}


def _frame(node: Node, caller: int, depth: int) -> Frame:
    name, module = _cut(node.call.name), _cut(node.call.module)
    colour = _colour(node.call, depth)
    return Frame(caller, name, module, colour, node.total_bytes, node.self_bytes, node.faults)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _together(nodes: list[Node], caller: int, *, deep: bool) -> Frame:
    """One frame for calls that are not drawn."""
    name = f"[{len(nodes):,} {'deeper' if deep else 'smaller'}]"
    total = sum(node.total_bytes for node in nodes)
    copies = sum(node.faults for node in nodes)
    return Frame(caller, name, "", _OTHER, total, 0, copies)


def _colour(call: Call, depth: int) -> str:
    module = call.module
    if depth < 2 or not module:
        return _OTHER if depth else _ROOT
    if module == "[kernel]":
        return _KERNEL
    if module == WRITTEN:
        return _WRITTEN
    if module.endswith((".py", ">")):
        return _PYTHON
    return _MODULES[sum(module.encode()) % len(_MODULES)]
