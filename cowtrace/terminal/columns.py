"""Lay out the columns of a table: fixed widths, and one column that takes the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from rich.table import Table
from rich.text import Text

from cowtrace.analysis import processes
from cowtrace.model import Process
from cowtrace.numbers import WIDTH
from cowtrace.text import fit, printable

Row = TypeVar("Row")
EXITED = "†"
_COMM_CELLS = 16  # 15 bytes at most as the kernel keeps it, and the mark


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """`text` gets the row and the cells that it may take. A right-aligned column begins with a
    gap of one cell."""

    header: str
    text: Callable[[Row, int], str]
    cells: int = WIDTH + 1  # the gap included; 0: what the others leave
    right: bool = True


def fitted(
    columns: Sequence[Column[Row]], width: int, dispensable: Iterable[str], least: int = 0
) -> list[Column[Row]]:
    """Drop whole columns, in the order of `dispensable` headers, until the table fits `width`.

    The flexible column keeps `least` cells or more; its width is filled in.
    """
    kept = list(columns)
    for header in dispensable:
        if sum(column.cells for column in kept) + least <= width:
            break
        kept = [column for column in kept if column.header != header]
    left = max(least, width - sum(column.cells for column in kept))
    return [column if column.cells else replace(column, cells=left) for column in kept]


def table(
    columns: Sequence[Column[Row]],
    rows: Iterable[Row],
    is_dim: Callable[[Row], bool] = lambda _: False,
) -> Table:
    """A line for each row. Texts are cells: markup in them does not act."""
    made = Table(box=None, padding=0, pad_edge=False, header_style="bold", collapse_padding=True)
    for column in columns:
        made.add_column(
            Text(column.header),
            justify="right" if column.right else "left",
            width=column.cells,
            no_wrap=True,
        )
    for row in rows:
        cells = (Text(column.text(row, column.cells)) for column in columns)
        made.add_row(*cells, style="dim" if is_dim(row) else None)
    return made


def pid_and_name(of: Callable[[Any], Process | processes.Row]) -> tuple[Column[Any], ...]:
    """The columns PID and COMM. A row of sums has no PID; its name is not one of a process."""

    def pid(row: Any, _: int) -> str:
        return "" if of(row).pid is None else str(of(row).pid)

    def name(row: Any, _: int) -> str:
        process = of(row)
        if process.pid is None:
            return process.comm
        shown = fit(printable(process.comm), _COMM_CELLS - 1)
        return f" {shown}{EXITED if process.exited else ''}"

    return (
        Column("PID", pid, 7),  # pid_max is 4,194,304
        Column(" COMM", name, _COMM_CELLS + 1, right=False),
    )
