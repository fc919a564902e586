"""A tree of calls -> the list of the functions that copy, in 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.model import Snapshot
from cowtrace.views.block import Block
from cowtrace.views.numbers import WIDTH, count, percent, size
from cowtrace.views.stack_tree import Node, functions
from cowtrace.views.table import trust
from cowtrace.views.text import fit, fit_end

_MODULE = 22


def block(now: Snapshot, root: Node, limit: int, *, sampled: bool) -> Block:
    """`sampled`: the sums are estimates."""
    found = functions(root)

    def draw(shown: int, width: int) -> RenderableType:
        table = Table(
            box=None, padding=0, pad_edge=False, header_style="bold", collapse_padding=True
        )
        table.add_column("SELF", justify="right", width=WIDTH, no_wrap=True)
        table.add_column("", justify="right", width=6, no_wrap=True)
        table.add_column("TOTAL", justify="right", width=WIDTH + 1, no_wrap=True)
        table.add_column("", justify="right", width=6, no_wrap=True)
        left = max(20, width - WIDTH - 6 - WIDTH - 1 - 6)
        module = min(_MODULE + max(0, width - 80) // 2, left // 2)
        table.add_column(" FUNCTION", width=left - module, no_wrap=True)
        table.add_column(" IN", width=module, no_wrap=True)
        whole = max(1, root.total_bytes)
        for function in found[:shown]:
            table.add_row(
                size(function.self_bytes),
                percent(function.self_bytes / whole),
                size(function.total_bytes),
                percent(function.total_bytes / whole),
                Text(" " + fit(function.call.name, left - module - 1)),
                Text(" " + fit_end(function.call.module, module - 1)),
            )
        return Group(table, _footer(now, root, min(shown, len(found)), len(found), sampled))

    return Block(min(limit, len(found)), draw)


def _footer(now: Snapshot, root: Node, shown: int, of: int, sampled: bool) -> Text:
    text = trust(now, f"{shown:,} of {of:,} functions", of_details=True)
    text.append(f"\n{size(root.total_bytes, ' ')} in {count(root.faults)} copies")
    if sampled:
        text.append(": estimated from samples, each stands for those of its CPU before it")
    return text
