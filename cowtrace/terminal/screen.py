"""Show views: redrawn in place on a terminal, one block after another on a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
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


def show(drawable: RenderableType) -> None:
    """Print it once to stdout, and flush: in colour on a terminal, plain on a pipe."""
    if sys.stdout.isatty():
        console(sys.stdout).print(drawable)
    else:
        plain.write(plain.console(sys.stdout), drawable)
        sys.stdout.flush()


class LiveScreen:
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

    def __enter__(self) -> LiveScreen:
        self._live.start()
        # Live hides the cursor. Left visible, no way of being killed can leave it hidden.
        self.console.show_cursor(True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, view: View) -> None:
        """Redraw with this view."""
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


class PlainScreen:
    """Writes each view as a block of its own, with an empty line between two."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = plain.console(stream)
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
        plain.write(self._console, view.draw(view.rows, COLUMNS))
        self._stream.flush()

    def resized(self) -> None:
        """A pipe has no size."""


def fitted(view: View, to: Console, height: int) -> RenderableType:
    """The view with as many of its rows as leave it at most `height` lines high, one at least."""
    rows = view.rows
    while True:
        drawn = view.draw(rows, to.width)
        over = len(to.render_lines(drawn, pad=False)) - height
        if over <= 0 or rows <= 1:
            return drawn
        rows = max(1, rows - -(-over // view.lines_per_row))
