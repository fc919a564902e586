"""Render the table of processes in 80 columns, with its footer."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.analysis.processes import Frame, Row, total
from cowtrace.numbers import count, size
from cowtrace.terminal.columns import Column, fitted, pid_and_name, table
from cowtrace.terminal.footer import containers, trust
from cowtrace.terminal.latency import summary
from cowtrace.terminal.process_details import details
from cowtrace.terminal.screen import View
from cowtrace.text import COLUMNS

NUMBERS: tuple[Column[Row], ...] = (
    Column("FAULTS", lambda row, _: count(row.faults)),
    Column("COPIED", lambda row, _: count(row.copied)),
    Column("ZERO", lambda row, _: count(row.zero)),
    Column("REUSED", lambda row, _: count(row.reused)),
    Column("SHARED", lambda row, _: count(row.shared)),
    Column("BYTES", lambda row, _: size(row.bytes)),
    Column("/S", lambda row, _: size(row.rate)),
)
_COLUMNS: tuple[Column[Row], ...] = (*pid_and_name(lambda row: row), *NUMBERS)
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
    columns = fitted(_COLUMNS, width, DISPENSABLE)
    made = table(columns, frame.rows[: frame.limit], lambda row: row.exited)
    if frame.total:
        sums = total(frame.snapshot, None)
        made.add_row(*(column.text(sums, column.cells) for column in columns), style="bold")
    return made


def footer(frame: Frame) -> Text:
    """Plan, kernel, how many are shown, and everything that was not counted or not seen."""
    shown = frame.rows[: frame.limit]
    return trust(
        frame.snapshot,
        f"{len(shown):,} of {frame.processes:,} processes",
        exited=any(row.exited for row in shown),
    )
