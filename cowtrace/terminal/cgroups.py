"""Render the table of cgroups in 80 columns; paths take the room that is left."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group, RenderableType

from cowtrace.analysis.cgroups import CgroupRow
from cowtrace.analysis.processes import Row
from cowtrace.model import Snapshot
from cowtrace.numbers import MISSING, count
from cowtrace.terminal.columns import Column, fitted, table
from cowtrace.terminal.footer import trust
from cowtrace.terminal.processes import DISPENSABLE, NUMBERS
from cowtrace.terminal.screen import View
from cowtrace.text import fit_end, printable

# Cells of a path, whose end identifies it: half of a container's 64 digits. For these, 80 columns
# lose ZERO and SHARED.
_LEAST = 33


def view(now: Snapshot, rows: tuple[CgroupRow, ...], limit: int) -> View:
    """The first `limit` of the rows."""

    def draw(shown: int, width: int) -> RenderableType:
        columns = fitted(_COLUMNS, width, DISPENSABLE, least=_LEAST)
        lines = table(columns, rows[:shown])
        return Group(lines, trust(now, f"{min(shown, len(rows)):,} of {len(rows):,} cgroups"))

    return View(min(limit, len(rows)), draw)


def _path(row: CgroupRow, cells: int) -> str:
    """Cut a long path at its start: the end distinguishes containers."""
    return MISSING if row.cgroup is None else fit_end(printable(row.cgroup), cells)


def _of_sums(text: Callable[[Row, int], str]) -> Callable[[CgroupRow, int], str]:
    return lambda row, cells: text(row.sums, cells)


_COLUMNS: tuple[Column[CgroupRow], ...] = (
    Column("CGROUP", _path, 0, right=False),
    Column("PROCS", lambda row, _: count(row.processes), 7),
    *(Column(number.header, _of_sums(number.text)) for number in NUMBERS),
)
