"""Fork rows -> a tree that fits 80 columns, and what in it is exact and what a bound."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.model import Ending, Snapshot
from cowtrace.views.block import Block
from cowtrace.views.generation_rows import ForkRow, TreeLine, tree
from cowtrace.views.numbers import MISSING, WIDTH, age, percent, size
from cowtrace.views.table import EXITED, trust
from cowtrace.views.text import COLUMNS, fit, printable

_PROCESS = COLUMNS - 7 - 4 * (WIDTH + 1) - 6 - (WIDTH + 1) - 6  # what the other columns leave
_SOUND = "exact: AGE, COPIED (in the plan's limits); upper bounds: SHARED, LOST, TO COME"


def block(now: Snapshot, rows: tuple[ForkRow, ...], limit: int) -> Block:
    """The first `limit` of the rows, as a tree."""

    def draw(shown: int, width: int) -> RenderableType:
        return _view(now, rows, shown, width)

    return Block(min(limit, len(rows)), draw)


def _view(now: Snapshot, rows: tuple[ForkRow, ...], shown: int, width: int) -> RenderableType:
    process = max(8, _PROCESS + width - COLUMNS)
    table = Table(box=None, padding=0, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("\nPROCESS", width=process, no_wrap=True)
    table.add_column("\nAGE", justify="right", width=7, no_wrap=True)
    for header in ("AT FORK\nSHARED", "COPIED\nPARENT", "COPIED\nCHILD"):
        table.add_column(header, justify="right", width=WIDTH + 1, no_wrap=True)
    table.add_column("\nLOST", justify="right", width=6, no_wrap=True)
    table.add_column("\n/S", justify="right", width=WIDTH + 1, no_wrap=True)
    table.add_column("\nTREND", justify="right", width=6, no_wrap=True)
    table.add_column("WORST\nTO COME", justify="right", width=WIDTH + 1, no_wrap=True)
    for line in tree(rows[:shown]):
        numbers = _numbers(line.row) if line.row else ()
        ended = line.row is not None and line.row.generation.ended_ns is not None
        table.add_row(Text(_process(line, process)), *numbers, style="dim" if ended else None)
    living = sum(row.generation.ended_ns is None for row in rows)
    exited = any(row.generation.ended_by is Ending.EXIT for row in rows[:shown])
    text = f"{min(shown, len(rows)):,} of {len(rows):,} forks, {living:,} alive"
    footer = trust(now, text, exited=exited, of_details=True)
    sound = _SOUND if rows else "no fork since the start; those from before it are not known"
    return Group(table, Text(sound, "dim"), footer)


def _process(line: TreeLine, cells: int) -> str:
    """Pid and name; what has exited is marked, and a child that called exec too."""
    ended = line.row.generation.ended_by if line.row else None
    exited = line.process.exited if line.process else False
    mark = " exec" if ended is Ending.EXEC else EXITED if ended is Ending.EXIT or exited else ""
    name = printable(line.process.comm) if line.process else "?"
    return fit(f"{line.branch}{line.pid} {name}", cells - len(mark)) + mark


def _numbers(row: ForkRow) -> tuple[str, ...]:
    generation = row.generation
    return (
        age(row.seconds),
        size(generation.shareable_bytes),
        size(generation.parent_copied_bytes),
        size(generation.child_copied_bytes),
        percent(generation.share_lost),
        size(row.rate),
        row.trend.value if row.trend else MISSING,
        size(generation.worst_case_bytes),
    )
