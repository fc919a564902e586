"""Render the table of mappings in 80 columns, and more where the terminal is wider."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from cowtrace.analysis.mappings import MappingRow
from cowtrace.model import Place, Snapshot
from cowtrace.numbers import MISSING, count, size
from cowtrace.terminal.columns import EXITED, Column, fitted, table
from cowtrace.terminal.footer import containers, trust
from cowtrace.terminal.screen import View
from cowtrace.text import fit, fit_end, printable

# What a terminal of less than 80 columns loses, in this order.
_DISPENSABLE = ("SIZE", "REUSED", "/S", " IN PAGE", " COMM", " SEG")
_BARS = " ▁▂▃▄▅▆▇█"  # of nothing, then by eighths


def view(
    now: Snapshot,
    rows: tuple[MappingRow, ...],
    limit: int,
    places: Mapping[int, Place],
    *,
    one: bool,
    addresses: bool,
) -> View:
    """`one`: all rows are of one process, which needs to be named only once.

    `places`: where the processes run, by pid.
    """

    def draw(shown: int, width: int) -> RenderableType:
        columns = fitted(_columns(one, addresses), width, _DISPENSABLE, least=13)
        lines = table(columns, rows[:shown], lambda row: row.exited)
        inside = containers((row.pid for row in rows[:shown]), places, width)
        return Group(lines, *inside, _footer(now, rows, min(shown, len(rows)), one=one))

    return View(min(limit, len(rows)), draw)


def _columns(one: bool, addresses: bool) -> list[Column[MappingRow]]:
    columns: list[Column[MappingRow]] = []
    if not one:
        columns.append(Column("PID", lambda row, _: str(row.pid), 7))
    if not one and not addresses:
        columns.append(Column(" COMM", _comm, 11, right=False))
    if addresses and not one:  # the mark has no name to stand by
        columns.append(Column("", lambda row, _: EXITED if row.exited else "", 1))
    if addresses:
        columns.append(Column("START", _start, 13))
        columns.append(Column("SIZE", lambda row, _: size(row.mapped_bytes)))
    space = "" if one and not addresses else " "
    return [
        *columns,
        Column(
            f"{space}MAPPING",
            lambda row, cells: space + _name(row, cells - len(space)),
            0,
            right=False,
        ),
        Column(" SEG", lambda row, _: f" {row.segment}", 5, right=False),
        Column("COPIED", lambda row, _: count(row.copied)),
        Column("REUSED", lambda row, _: count(row.reused)),
        Column("BYTES", lambda row, _: size(row.bytes)),
        Column("/S", lambda row, _: size(row.rate)),
        *([Column(" IN PAGE", _in_page, 9, right=False)] if addresses else []),
    ]


def _in_page(row: MappingRow, _: int) -> str:
    """A bar for each eighth of the page: how many of the copying writes began there."""
    if row.by_eighth is None:
        return f" {MISSING}"
    most = max(row.by_eighth)
    return " " + "".join(_BARS[-(-each * 8 // most) if most else 0] for each in row.by_eighth)


def _comm(row: MappingRow, cells: int) -> str:
    mark = EXITED if row.exited else ""
    return f" {fit(printable(row.comm), cells - 1 - len(mark))}{mark}"


def _start(row: MappingRow, _: int) -> str:
    return MISSING if row.start is None else f"{row.start:x}"


def _name(row: MappingRow, cells: int) -> str:
    """The mapping's name, with a mark for huge pages. A long path is cut at its start."""
    if row.label is None:
        return MISSING
    mark = "".join(f" +{huge}" for huge in row.huge)
    cut = fit_end if row.label.startswith("/") else fit
    return cut(printable(row.label), cells - len(mark)) + mark


def _footer(now: Snapshot, rows: tuple[MappingRow, ...], shown: int, *, one: bool) -> Text:
    of = f"{shown:,} of {len(rows):,} mappings"
    exited = any(row.exited for row in rows[:shown])
    if one and now.processes:
        process = now.processes[0]
        of += f" of {process.pid} {fit(printable(process.comm), 15)}"
        of += EXITED if exited else ""
    text = trust(now, of, exited=exited)
    if any(row.huge for row in rows[:shown]):
        text.append("; +thp, +hugetlb: huge pages were hit")
    if any(row.label is None for row in rows[:shown]):
        text.append("; - unknown: its name could not be read")
    return text
