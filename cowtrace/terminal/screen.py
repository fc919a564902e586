"""Show views: redrawn in place on a terminal, one block after another on a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.status import Status
from rich.text import Text

from cowtrace.terminal import plain
from cowtrace.text import COLUMNS


@dataclass(frozen=True, slots=True)
class View:
    """A drawable view: its row count and its draw function. A low screen draws fewer rows."""

    rows: int  # shown at most
    draw: Callable[[int, int], RenderableType]  # (rows, width in cells)
    lines_per_row: int = 1  # that a row takes, at most


def console(stream: TextIO) -> Console:
    """The terminal behind `stream`; names from processes are never taken for markup."""
    return Console(file=stream, markup=False, highlight=False, emoji=False)


def can_redraw(stream: TextIO) -> bool:
    """True if it is a terminal that supports cursor movements."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def show(drawable: RenderableType, stream: TextIO | None = None) -> None:
    """Print it once, by default to stdout, and flush: in colour on a terminal, plain on a pipe."""
    stream = stream or sys.stdout
    if can_redraw(stream):
        console(stream).print(drawable)
    else:
        plain.write(stream, drawable)


class Screen:
    """Shows views, one after the other; at its end the last one stays in place."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, view: View) -> None:
        """Draw this view."""
        raise NotImplementedError

    def resized(self) -> None:
        """The terminal has another size now; a pipe has none."""


class LiveScreen(Screen):
    """Shows the newest view, cut to the terminal's height; the last one stays at the end."""

    def __init__(self, stream: TextIO, *, space_above: bool = False) -> None:
        self._space = [Text()] if space_above else []
        self.console = console(stream)
        self._newest: View | None = None
        self._live = Live(
            console=self.console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._drawn,
        )

    def __enter__(self) -> Self:
        self._live.start()
        # Live hides the cursor. Left visible, no way of being killed can leave it hidden.
        self.console.show_cursor(True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, view: View) -> None:
        self._newest = view
        self._live.refresh()

    def resized(self) -> None:
        """Start again on a clear screen: what was drawn has been wrapped anew."""
        self.console.clear()
        self._live.refresh()

    def _drawn(self) -> RenderableType:
        if self._newest is None:
            return Text("counting…", style="dim")
        drawn = fitted(self._newest, self.console, self.console.height - 1 - len(self._space))
        return Group(*self._space, drawn)


class PlainScreen(Screen):
    """Writes each view as a block of its own, with an empty line between two."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._blocks = 0

    def show(self, view: View) -> None:
        if self._blocks:
            self._stream.write("\n")
        self._blocks += 1
        plain.write(self._stream, view.draw(view.rows, COLUMNS))


def screen(stream: TextIO) -> Screen:
    """A live table on a terminal that can redraw, plain blocks anywhere else."""
    return LiveScreen(stream) if can_redraw(stream) else PlainScreen(stream)


@contextmanager
def spinner(words: str) -> Iterator[Status | None]:
    """Show a spinner beside the words on stderr; None where that is no terminal."""
    stderr = console(sys.stderr)
    if stderr.is_terminal:
        with stderr.status(Text(words)) as status:
            yield status
    else:
        yield None


def fitted(view: View, to: Console, height: int) -> RenderableType:
    """The view with as many of its rows as leave it at most `height` lines high, one at least."""
    rows = view.rows
    while True:
        drawn = view.draw(rows, to.width)
        over = len(to.render_lines(drawn, pad=False)) - height
        if over <= 0 or rows <= 1:
            return drawn
        rows = max(1, rows - -(-over // view.lines_per_row))
