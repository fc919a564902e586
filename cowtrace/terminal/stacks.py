"""Render the list of the functions that copy, in 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from cowtrace.analysis.stacks import Function, Node, functions
from cowtrace.model import Snapshot
from cowtrace.numbers import WIDTH, count, percent, size
from cowtrace.terminal.columns import Column, fitted, table
from cowtrace.terminal.footer import trust
from cowtrace.terminal.screen import View
from cowtrace.text import COLUMNS, fit, fit_end


def view(now: Snapshot, root: Node, limit: int, *, sampled: bool) -> View:
    """`sampled`: the sums are estimates."""
    found = functions(root)

    def draw(shown: int, width: int) -> RenderableType:
        columns = fitted(_columns(root, width), width, (" IN",), least=20)
        lines = table(columns, found[:shown])
        return Group(lines, _footer(now, root, min(shown, len(found)), len(found), sampled))

    return View(min(limit, len(found)), draw)


def _columns(root: Node, width: int) -> list[Column[Function]]:
    whole = max(1, root.total_bytes)
    module = 22 + max(0, width - COLUMNS) // 2
    return [
        Column("SELF", lambda function, _: size(function.self_bytes), WIDTH),
        Column("", lambda function, _: percent(function.self_bytes / whole), 6),
        Column("TOTAL", lambda function, _: size(function.total_bytes)),
        Column("", lambda function, _: percent(function.total_bytes / whole), 6),
        Column(
            " FUNCTION", lambda function, cells: " " + fit(function.call.name, cells - 1), 0, False
        ),
        Column(
            " IN",
            lambda function, cells: " " + fit_end(function.call.module, cells - 1),
            module,
            False,
        ),
    ]


def _footer(now: Snapshot, root: Node, shown: int, of: int, sampled: bool) -> Text:
    text = trust(now, f"{shown:,} of {of:,} functions")
    text.append(f"\n{size(root.total_bytes, ' ')} in {count(root.faults)} copies")
    if sampled:
        text.append(", estimated from samples")
    return text
