"""Write views as plain text for a pipe: a block each, no escapes, 80 columns."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO

from rich.console import Console, RenderableType

from cowtrace.terminal.view import View
from cowtrace.text import COLUMNS


def console(stream: TextIO) -> Console:
    """A console that never writes an escape and never asks how wide the terminal is."""
    return Console(
        file=stream,
        width=COLUMNS,
        color_system=None,
        force_terminal=False,
        force_interactive=False,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )


class PlainScreen:
    """Writes each view as a block of its own, with an empty line between two."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = console(stream)
        self._blocks = 0

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        pass

    def show(self, view: View) -> None:
        """Write one block, and flush it: a pipe's reader sees each interval at once."""
        if self._blocks:
            self._stream.write("\n")
        self._blocks += 1
        write(self._console, view.draw(view.rows, COLUMNS))
        self._stream.flush()

    def resized(self) -> None:
        """A pipe has no size."""


def write(to: Console, view: RenderableType) -> None:
    """Print without the blanks that rich pads a table's lines with.

    Written by hand also because rich ends the program, with a code of its own, when nobody reads.
    """
    to.file.write("".join(f"{line}\n" for line in lines(view, to=to)))


def lines(view: RenderableType, width: int = COLUMNS, *, to: Console | None = None) -> list[str]:
    """The view as plain lines."""
    to = to or console(sys.stdout)
    with to.capture() as captured:
        to.print(view, width=width)
    return [line.rstrip() for line in captured.get().splitlines()]
