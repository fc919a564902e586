"""Render the table of processes in 80 columns, and what -v adds to it."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.analysis.processes import Frame, Row, total
from cowtrace.model import FaultKind, FaultRow, Process
from cowtrace.numbers import MISSING, count, size
from cowtrace.terminal.columns import Column, fitted, pid_and_name, table
from cowtrace.terminal.footer import containers, trust
from cowtrace.terminal.latency import summary
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
        parts += _details(frame)
    if frame.latency:
        parts += [Text(), summary(frame.snapshot), Text()]
    shown = frame.rows[: frame.limit]
    inside = containers((row.pid for row in shown if row.pid is not None), frame.places, width)
    words = f"{len(shown):,} of {frame.processes:,} processes"
    exited = any(row.exited for row in shown)
    footer = trust(frame.snapshot, words, exited=exited, outcomes=frame.verbose)
    return Group(*parts, *inside, footer)


def fault_table(frame: Frame, width: int = COLUMNS) -> Table:
    """One row per process, then the totals if the frame has them."""
    columns = fitted(_COLUMNS, width, DISPENSABLE)
    made = table(columns, frame.rows[: frame.limit], lambda row: row.exited)
    if frame.total:
        sums = total(frame.snapshot, None)
        made.add_row(*(column.text(sums, column.cells) for column in columns), style="bold")
    return made


def _details(frame: Frame) -> list[RenderableType]:
    """Two tables, each after an empty line.

    The first has all page faults, copy-on-write or not, and the kinds that the main table leaves
    out; the second has each sum as the kernel side keeps it.
    """
    shown = [
        process
        for row in frame.rows[: frame.limit]
        if row.pid is not None and (process := frame.snapshot.process(row.pid))
    ]
    sums = [
        (process, row)
        for process in shown
        for row in sorted(process.rows, key=lambda row: (-row.faults, row.kind))
    ]
    return [Text(), table(_TOTALS, shown), Text(), table(_ORIGINS, sums)]


_TOTALS: tuple[Column[Process], ...] = (
    *pid_and_name(lambda process: process),
    Column("FAULTS\n USER", lambda p, _: count(p.page_faults.user if p.page_faults else None)),
    Column("FAULTS\nKERNEL", lambda p, _: count(p.page_faults.kernel if p.page_faults else None)),
    Column(
        "WRITE-\nPROTECT",
        lambda p, _: count(p.page_faults.write_protect if p.page_faults else None),
    ),
    Column("FILE-\nCOPIED", lambda p, _: count(p.count(FaultKind.FILE_COPIED))),
    Column("UN-\nCHANGED", lambda p, _: count(p.count(FaultKind.UNCHANGED))),
    Column("\nFAILED", lambda p, _: count(p.count(FaultKind.FAILED))),
    Column("UNCLAS-\nSIFIED", lambda p, _: count(p.count(FaultKind.UNCLASSIFIED))),
)
_ORIGINS: tuple[Column[tuple[Process, FaultRow]], ...] = (
    *pid_and_name(lambda pair: pair[0]),
    Column("KIND", lambda pair, _: pair[1].kind.label, 13),
    Column("SOURCE", lambda pair, _: pair[1].source.label or MISSING),
    Column("ORIGIN", lambda pair, _: pair[1].origin.name.lower()),
    # the process that made a remote write
    Column("ACTOR", lambda pair, _: MISSING if pair[1].actor is None else str(pair[1].actor)),
    Column("FAULTS", lambda pair, _: count(pair[1].faults)),
    Column("BYTES", lambda pair, _: size(pair[1].bytes)),
)
