"""What a screen shows that is no table of processes: a number of rows, and how to draw them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Block:
    """One refresh. A screen that is too low for it draws fewer of the rows."""

    rows: int  # shown at most
    draw: Callable[[int, int], RenderableType]  # (rows, width in cells)
