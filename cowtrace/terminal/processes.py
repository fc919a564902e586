"""Render the table of processes in 80 columns, with its footer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.analysis.processes import Frame, Row, total
from cowtrace.numbers import WIDTH, count, size
from cowtrace.terminal.columns import COMM_CELLS, PID_CELLS, grid, name
from cowtrace.terminal.footer import containers, trust
from cowtrace.terminal.latency import summary
from cowtrace.terminal.process_details import details
from cowtrace.terminal.screen import View
from cowtrace.text import COLUMNS


@dataclass(frozen=True, slots=True)
class Number:
    """A column of one number of a row."""

    header: str
    text: Callable[[Row], str]


NUMBERS = (
    Number("FAULTS", lambda row: count(row.faults)),
    Number("COPIED", lambda row: count(row.copied)),
    Number("ZERO", lambda row: count(row.zero)),
    Number("REUSED", lambda row: count(row.reused)),
    Number("SHARED", lambda row: count(row.shared)),
    Number("BYTES", lambda row: size(row.bytes)),
    Number("/S", lambda row: size(row.rate)),
)


# What a terminal of less than 80 columns loses, in this order.
DISPENSABLE = ("SHARED", "ZERO", "REUSED", "FAULTS")


def view(frame: Frame) -> View:
    """What `cowtrace top` shows."""

    def draw(rows: int, width: int) -> RenderableType:
        return render(replace(frame, limit=rows), width)

    shown = min(frame.limit, len(frame.rows))
    return View(shown, draw, lines_per_row=4 if frame.verbose else 1)


def render(frame: Frame, width: int = COLUMNS) -> RenderableType:
    """The whole view: table, details if requested, footer."""
    parts: list[RenderableType] = [fault_table(frame, width)]
    if frame.verbose:
        parts += details(frame)
    if frame.latency:
        parts += [Text(), summary(frame.snapshot), Text()]
    shown = (row.pid for row in frame.rows[: frame.limit] if row.pid is not None)
    return Group(*parts, *containers(shown, frame.places, width), footer(frame))


def fault_table(frame: Frame, width: int = COLUMNS) -> Table:
    """One row per process, then the totals if the frame has them."""
    columns = _fitting(width)
    table = grid(*(column.header for column in columns))
    for row in frame.rows[: frame.limit]:
        table.add_row(
            str(row.pid),
            name(row.comm, row.exited),
            *(column.text(row) for column in columns),
            style="dim" if row.exited else None,
        )
    if frame.total:
        sums = total(frame.snapshot, None)
        table.add_row("", sums.comm, *(column.text(sums) for column in columns), style="bold")
    return table


def footer(frame: Frame) -> Text:
    """Plan, kernel, how many are shown, and everything that was not counted or not seen."""
    shown = frame.rows[: frame.limit]
    return trust(
        frame.snapshot,
        f"{len(shown):,} of {frame.processes:,} processes",
        exited=any(row.exited for row in shown),
    )


def _fitting(width: int) -> list[Number]:
    columns = list(NUMBERS)
    for header in DISPENSABLE:
        if PID_CELLS + 1 + COMM_CELLS + len(columns) * (WIDTH + 1) > width:
            columns = [column for column in columns if column.header != header]
    return columns
