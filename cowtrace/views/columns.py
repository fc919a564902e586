"""Columns of fixed widths, one of which takes what is left -> a table of just that width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from rich.table import Table
from rich.text import Text

from cowtrace.views.numbers import WIDTH

Row = TypeVar("Row")


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
