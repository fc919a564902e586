"""Choose the screen: redrawn in place on a terminal, plain blocks of text anywhere else."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from cowtrace.terminal.screen import View


class Screen(Protocol):
    """Shows views, one after the other; a context manager that leaves the last one in place."""

    def __enter__(self) -> Screen: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...

    def show(self, view: View) -> None: ...

    def resized(self) -> None: ...


def screen(stream: TextIO | None = None) -> Screen:
    """A live table on a terminal that can redraw, plain blocks anywhere else."""
    stream = stream or sys.stdout
    from cowtrace.terminal.screen import LiveScreen, PlainScreen

    return LiveScreen(stream) if can_redraw(stream) else PlainScreen(stream)


def can_redraw(stream: TextIO) -> bool:
    """True if it is a terminal that supports cursor movements."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
