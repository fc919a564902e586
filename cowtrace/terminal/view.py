"""A drawable view: its row count and its draw function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class View:
    """What a screen shows at one refresh. A screen that is too low for it draws fewer rows."""

    rows: int  # shown at most
    draw: Callable[[int, int], RenderableType]  # (rows, width in cells)
    lines_per_row: int = 1  # that a row takes, at most
