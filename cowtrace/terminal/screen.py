"""Redraw a view in place on a terminal; the last one stays there at the end."""

from __future__ import annotations

from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cowtrace.terminal.view import View


def console(stream: TextIO) -> Console:
    """The terminal behind `stream`; names from processes are never taken for markup."""
    return Console(file=stream, markup=False, highlight=False, emoji=False)


class LiveScreen:
    """Shows the newest view, cut to the terminal's height. A context manager."""

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


def fitted(view: View, to: Console, height: int) -> RenderableType:
    """The view with as many of its rows as leave it at most `height` lines high, one at least."""
    rows = view.rows
    while True:
        drawn = view.draw(rows, to.width)
        over = len(to.render_lines(drawn, pad=False)) - height
        if over <= 0 or rows <= 1:
            return drawn
        rows = max(1, rows - -(-over // view.lines_per_row))
