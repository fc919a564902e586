"""Mapping rows -> a table that fits 80 columns, and says more where there is room."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.model import Snapshot
from cowtrace.views.block import Block
from cowtrace.views.mapping_rows import MappingRow
from cowtrace.views.numbers import MISSING, WIDTH, count, size
from cowtrace.views.table import EXITED, trust
from cowtrace.views.text import fit, fit_end, printable

_PID, _COMM, _START, _SEGMENT = 7, 10, 13, 5  # cells


def block(
    now: Snapshot, rows: tuple[MappingRow, ...], limit: int, *, one: bool, addresses: bool
) -> Block:
    """`one`: all rows are of one process, which needs to be named only once."""

    def draw(shown: int, width: int) -> RenderableType:
        return _view(now, rows, shown, width, one=one, addresses=addresses)

    return Block(min(limit, len(rows)), draw)


def _view(
    now: Snapshot,
    rows: tuple[MappingRow, ...],
    shown: int,
    width: int,
    *,
    one: bool,
    addresses: bool,
) -> RenderableType:
    table = Table(box=None, padding=0, pad_edge=False, header_style="bold", collapse_padding=True)
    left = width - _SEGMENT - 4 * (WIDTH + 1)
    if not one:
        table.add_column("PID", justify="right", width=_PID, no_wrap=True)
        left -= _PID
    if not one and not addresses:
        table.add_column(" COMM", width=_COMM + 1, no_wrap=True)
        left -= _COMM + 1
    if addresses:
        if not one:  # the mark has no name to stand by
            table.add_column("", width=1, no_wrap=True)
            left -= 1
        table.add_column("START", justify="right", width=_START, no_wrap=True)
        table.add_column("SIZE", justify="right", width=WIDTH + 1, no_wrap=True)
        left -= _START + WIDTH + 1
    space = "" if one and not addresses else " "
    table.add_column(f"{space}MAPPING", width=max(8, left), no_wrap=True)
    table.add_column(" SEG", width=_SEGMENT, no_wrap=True)
    for header in ("COPIED", "REUSED", "BYTES", "/S"):
        table.add_column(header, justify="right", width=WIDTH + 1, no_wrap=True)
    for row in rows[:shown]:
        cells = []
        if not one:
            cells.append(str(row.pid))
        if not one and not addresses:
            mark = EXITED if row.exited else ""
            cells.append(f" {fit(printable(row.comm), _COMM - len(mark))}{mark}")
        if addresses and not one:
            cells.append(EXITED if row.exited else "")
        if addresses:
            cells += [MISSING if row.start is None else f"{row.start:x}", size(row.mapped_bytes)]
        table.add_row(
            *map(Text, cells),
            Text(space + _name(row, max(8, left) - len(space))),
            f" {row.segment}",
            count(row.copied),
            count(row.reused),
            size(row.bytes),
            size(row.rate),
            style="dim" if row.exited else None,
        )
    return Group(table, _footer(now, rows, min(shown, len(rows)), one=one))


def _name(row: MappingRow, cells: int) -> str:
    """Its name with huge pages marked; of a path, the end is kept."""
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
    text = trust(now, of, exited=exited, of_details=True)
    if any(row.huge for row in rows[:shown]):
        text.append("; +thp, +hugetlb: huge pages were hit")
    if any(row.label is None for row in rows[:shown]):
        text.append("; - unknown: its name could not be read")
    return text
