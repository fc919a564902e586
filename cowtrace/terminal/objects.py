"""Render what copies changed in CPython's memory, in 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from cowtrace.analysis.objects import ObjectRow, Remedy, known_bytes
from cowtrace.model import Snapshot
from cowtrace.numbers import MISSING, count, percent, size
from cowtrace.terminal.columns import Column, fitted, table
from cowtrace.terminal.footer import trust
from cowtrace.terminal.screen import View
from cowtrace.text import fit, fit_end, printable

_CAUSE_CELLS, _PHASE_CELLS = 25, 18  # the longest name, and the gap


def view(
    now: Snapshot, rows: tuple[ObjectRow, ...], changes: tuple[Remedy, ...], limit: int
) -> View:
    """The causes, and what would avoid copies."""

    def draw(shown: int, width: int) -> RenderableType:
        columns = fitted(_columns(rows), width, (" PHASE",), least=12)
        lines = table(columns, rows[:shown])
        return Group(lines, *_advice(changes, width), _footer(now, rows, min(shown, len(rows))))

    return View(min(limit, len(rows)), draw)


def _columns(rows: tuple[ObjectRow, ...]) -> list[Column[ObjectRow]]:
    whole = max(1, sum(row.bytes for row in rows))
    return [
        Column("BYTES", lambda row, _: size(row.bytes)),
        Column("", lambda row, _: percent(row.bytes / whole), 6),
        Column(" WRITTEN", lambda row, _: f" {row.cause.value}", _CAUSE_CELLS, False),
        Column(" TYPE", lambda row, cells: " " + _type(row, cells - 1), 0, False),
        Column(" PHASE", lambda row, _: " " + _phase(row), _PHASE_CELLS, False),
    ]


def _type(row: ObjectRow, cells: int) -> str:
    if row.type is None:
        return MISSING
    name = printable(row.type)
    return (fit_end if "." in name else fit)(name, cells)


def _phase(row: ObjectRow) -> str:
    return row.phase.value if row.phase else MISSING


def _advice(changes: tuple[Remedy, ...], width: int) -> list[Text]:
    if not changes:
        return []
    lines = [Text("What would avoid copies, at most:", "bold")]
    lines += [
        Text(fit(f"{size(each.bytes):>8}  {each.change}: {printable(each.of)}", width))
        for each in changes
    ]
    return lines


def _footer(now: Snapshot, rows: tuple[ObjectRow, ...], shown: int) -> Text:
    text = trust(now, f"{shown:,} of {len(rows):,} rows")
    copied = sum(row.bytes for row in rows)
    faults = sum(row.faults for row in rows)
    text.append(f"\n{size(copied, ' ')} in {count(faults)} copies")
    if copied:
        text.append(f", {percent(known_bytes(rows) / copied)} of the bytes have a cause")
    if rows and all(row.phase is None for row in rows):
        text.append("\nno CPython was found: only the mapping tells what was written")
    return text
