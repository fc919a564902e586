"""Frames -> a table on a terminal that is redrawn in place, and stays there at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cowtrace.analysis.processes import Frame
from cowtrace.terminal.processes import render
from cowtrace.terminal.view import Block


def console(stream: TextIO) -> Console:
    """The terminal behind `stream`; names from processes are never taken for markup."""
    return Console(file=stream, markup=False, highlight=False, emoji=False)


class LiveScreen:
    """Shows the newest frame, cut to the terminal's height. A context manager."""

    def __init__(self, stream: TextIO, *, space_above: bool = False) -> None:
        self._space = [Text()] if space_above else []
        self.console = console(stream)
        self._frame: Frame | Block | None = None
        self._live = Live(
            console=self.console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._view,
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

    def show(self, frame: Frame | Block) -> None:
        """Redraw with this frame."""
        self._frame = frame
        self._live.refresh()

    def resized(self) -> None:
        """Start again on a clear screen: what was drawn has been wrapped anew."""
        self.console.clear()
        self._live.refresh()

    def _view(self) -> RenderableType:
        if self._frame is None:
            return Text("counting…", style="dim")
        view = fitted(self._frame, self.console, self.console.height - 1 - len(self._space))
        return Group(*self._space, view)


def fitted(frame: Frame | Block, to: Console, height: int) -> RenderableType:
    """The frame with as many of its rows as leave it at most `height` lines high, one at least."""
    if isinstance(frame, Block):
        return _cut(frame.rows, lambda rows: frame.draw(rows, to.width), to, height)
    return _cut(
        min(frame.limit, len(frame.rows)),
        lambda rows: render(dataclasses.replace(frame, limit=rows), to.width),
        to,
        height,
        lines_per_row=4 if frame.verbose else 1,  # with details a row takes several lines
    )


def _cut(
    shown: int,
    draw: Callable[[int], RenderableType],
    to: Console,
    height: int,
    lines_per_row: int = 1,
) -> RenderableType:
    while True:
        view = draw(shown)
        over = len(to.render_lines(view, pad=False)) - height
        if over <= 0 or shown <= 1:
            return view
        shown = max(1, shown - -(-over // lines_per_row))
