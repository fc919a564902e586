"""terminal/columns.py: what a narrow terminal loses, and that nothing in a cell acts."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from cowtrace.terminal.columns import Column, fitted, table

COLUMNS: tuple[Column[int], ...] = (
    Column("PID", lambda row, _: str(row), 7),
    Column(" NAME", lambda row, cells: " " + "x" * (cells - 1), 0, right=False),
    Column("COPIED", lambda row, _: "1,234"),
    Column("REUSED", lambda row, _: "[bold]9"),
)


@pytest.mark.parametrize(
    ("width", "kept", "name"),
    [
        (80, ["PID", " NAME", "COPIED", "REUSED"], 57),
        (33, ["PID", " NAME", "COPIED", "REUSED"], 10),
        (32, ["PID", " NAME", "REUSED"], 17),
        (20, ["PID", " NAME"], 13),
        (5, ["PID", " NAME"], 10),
    ],
)
def test_whole_columns_go_in_their_order(width: int, kept: list[str], name: int) -> None:
    columns = fitted(COLUMNS, width, ("COPIED", "REUSED"), least=10)
    assert [column.header for column in columns] == kept
    assert columns[1].cells == name


@pytest.mark.parametrize("width", [25, 40, 80, 200])
def test_lines_are_as_wide_as_the_terminal(width: int) -> None:
    terminal = Console(file=io.StringIO(), width=width, markup=False)
    with terminal.capture() as shown:
        columns = fitted(COLUMNS, width, ("COPIED", "REUSED"), least=10)
        terminal.print(table(columns, [1, 2], is_dim=lambda row: row == 2))
    head, *lines = shown.get().splitlines()
    assert head.split()[:2] == ["PID", "NAME"]
    assert {cell_len(line.rstrip()) for line in lines} == {width}
    assert width < 33 or "[bold]9" in lines[0]
