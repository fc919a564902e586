"""Lay out the columns of a table: fixed widths, and one column that takes the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from rich.table import Table
from rich.text import Text

from cowtrace.numbers import WIDTH
from cowtrace.text import fit, printable

Row = TypeVar("Row")
EXITED = "†"
COMM_CELLS = 16  # 15 bytes at most as the kernel keeps it, and the mark
PID_CELLS = 7  # pid_max is 4,194,304


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """`text` gets the row and the cells that it may take; a right-aligned one has a gap on its
    left, of one cell."""

    header: str
    text: Callable[[Row, int], str]
    cells: int = WIDTH + 1  # the gap included; 0: what the others leave
    right: bool = True


def fitted(
    columns: Sequence[Column[Row]], width: int, dispensable: Iterable[str], least: int
) -> list[Column[Row]]:
    """Without the dispensable ones (their headers) that leave the flexible one less than `least`
    cells, and with that one's width filled in. Whole columns go, never digits."""
    kept = list(columns)
    for header in dispensable:
        if sum(column.cells for column in kept) + least <= width:
            break
        kept = [column for column in kept if column.header != header]
    left = max(least, width - sum(column.cells for column in kept))
    return [column if column.cells else replace(column, cells=left) for column in kept]


def table(columns: Sequence[Column[Row]], rows: Iterable[tuple[Row, bool]]) -> Table:
    """Rows, and whether each is dimmed. Texts are cells: markup in them does not act."""
    made = Table(box=None, padding=0, pad_edge=False, header_style="bold", collapse_padding=True)
    for column in columns:
        header = column.header if column.right else Text(column.header)
        made.add_column(
            header,
            justify="right" if column.right else "left",
            width=column.cells,
            no_wrap=True,
        )
    for row, dim in rows:
        cells = (Text(column.text(row, column.cells)) for column in columns)
        made.add_row(*cells, style="dim" if dim else None)
    return made


def grid(*headers: str, width: int = WIDTH) -> Table:
    """An empty table of PID, COMM and right-aligned columns of one width."""
    table = Table(box=None, padding=0, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("PID", justify="right", width=PID_CELLS, no_wrap=True)
    table.add_column(" COMM", width=COMM_CELLS + 1, no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", width=width + 1, no_wrap=True)
    return table


def name(comm: str, exited: bool) -> Text:
    """A process's name as plain cells: markup and escapes in it do not act."""
    shown = fit(printable(comm), COMM_CELLS - 1)
    return Text(f" {shown}{EXITED if exited else ''}")
