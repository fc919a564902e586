"""Render the tree of forks in 80 columns; say which columns are exact and which are bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from cowtrace.analysis.forks import ForkRow, TreeLine, tree
from cowtrace.model import Ending, Place, Snapshot
from cowtrace.numbers import MISSING, age, brief, percent, size
from cowtrace.terminal.columns import EXITED, Column, fitted, table
from cowtrace.terminal.footer import containers, trust
from cowtrace.terminal.screen import View
from cowtrace.text import fit, printable

_SOUND = "exact: AGE, COPIED (in the plan's limits); upper bounds: SHARED, LOST, TO COME"
_BEGINS_LATE = "lower bound: FORK, which the tracepoint plan sees from the copy of the memory on"
_NONE = "no fork since the start; those from before it are not known"
# What a terminal of less than 80 columns loses, in this order.
_DISPENSABLE = (
    *("\n/S", "\nLOST", "\nTREND", "AT FORK\nSHARED", "\nAGE"),
    *("PAGE\nTABLES", "\nFORK"),
)


def view(now: Snapshot, rows: tuple[ForkRow, ...], limit: int, places: Mapping[int, Place]) -> View:
    """The first `limit` of the rows, as a tree. `places`: of their processes, by pid."""

    def draw(shown: int, width: int) -> RenderableType:
        drawn = tree(rows[:shown])
        columns = fitted(_COLUMNS, width, _DISPENSABLE, least=18)
        lines = table(columns, drawn, lambda line: bool(line.row and line.row.generation.ended_ns))
        inside = containers((line.pid for line in drawn), places, width)
        living = sum(row.generation.ended_ns is None for row in rows)
        exited = any(row.generation.ended_by is Ending.EXIT for row in rows[:shown])
        text = f"{min(shown, len(rows)):,} of {len(rows):,} forks, {living:,} alive"
        footer = trust(now, text, exited=exited)
        bounds = f"{_SOUND}\n{_BEGINS_LATE}" if now.plan == "tracepoint" else _SOUND
        return Group(lines, *inside, Text(bounds if rows else _NONE, "dim"), footer)

    return View(min(limit, len(rows)), draw)


def process_cell(line: TreeLine, cells: int) -> str:
    """PID and name, with a mark if the process exited or the child called exec."""
    ended = line.row.generation.ended_by if line.row else None
    exited = line.process.exited if line.process else False
    mark = " exec" if ended is Ending.EXEC else EXITED if ended is Ending.EXIT or exited else ""
    name = printable(line.process.comm) if line.process else "?"
    return fit(f"{line.branch}{line.pid} {name}", cells - len(mark)) + mark


def _of_row(text: Callable[[ForkRow], str]) -> Callable[[TreeLine, int], str]:
    """A root of the tree is no fork: its cells are empty."""
    return lambda line, _: text(line.row) if line.row else ""


_COLUMNS: tuple[Column[TreeLine], ...] = (
    Column("\nPROCESS", process_cell, 0, right=False),
    Column("\nAGE", _of_row(lambda row: age(row.seconds)), 7),
    Column("\nFORK", _of_row(lambda row: brief(row.generation.fork_ns)), 7),
    Column("PAGE\nTABLES", _of_row(lambda row: size(row.generation.page_table_bytes))),
    Column("AT FORK\nSHARED", _of_row(lambda row: size(row.generation.shareable_bytes))),
    Column("COPIED\nPARENT", _of_row(lambda row: size(row.generation.parent_copied_bytes))),
    Column("COPIED\nCHILD", _of_row(lambda row: size(row.generation.child_copied_bytes))),
    Column("\nLOST", _of_row(lambda row: percent(row.generation.share_lost)), 6),
    Column("\n/S", _of_row(lambda row: size(row.rate))),
    Column("\nTREND", _of_row(lambda row: row.trend.value if row.trend else MISSING), 6),
    Column("WORST\nTO COME", _of_row(lambda row: size(row.generation.worst_case_bytes))),
)
