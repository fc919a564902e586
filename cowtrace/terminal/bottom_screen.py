"""Draw a view in the terminal's last lines, while a command writes above them.

The command's output must stay whole and in its place, so nothing is drawn over it: the terminal
scrolls only the lines above (DECSTBM, as apt does for its progress bar). Each drawing
is a single write that restores the cursor, so that it cannot come between two of the command's.
"""

from __future__ import annotations

import os
from typing import TextIO

from cowtrace.terminal.screen import Screen, View, console, fitted

_LEAST_ABOVE = 8  # lines that the command keeps in any case
_MOST_BELOW = 12
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[2K", "\x1b[J"
_DOWN = "\x1bD"  # keeps the column, scrolls at the end


class BottomScreen(Screen):
    """Reserves lines at the bottom when the first view comes, and gives them back at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = console(stream)
        self._newest: View | None = None
        self._top = 0  # the first reserved line, counted from 1; 0: none is reserved

    def __exit__(self, *_: object) -> None:
        self.release()

    def show(self, view: View) -> None:
        """Draw this view, unless the terminal is too small or belongs to another job now."""
        self._newest = view
        if not self._is_ours():
            return
        size = os.get_terminal_size(self._stream.fileno())
        lines = min(_MOST_BELOW, size.lines - _LEAST_ABOVE)
        if lines < 5:
            return
        self._reserve(size.lines, lines)
        drawn_view = fitted(view, self._console, lines - 1)
        with self._console.capture() as captured:
            self._console.print("─" * size.columns, style="dim", end="\n")
            self._console.print(drawn_view)
        drawn = captured.get().splitlines()[:lines]
        drawn += [""] * (lines - len(drawn))
        placed = [f"\x1b[{self._top + i};1H{_CLEAR_LINE}{line}" for i, line in enumerate(drawn)]
        self._write(_SAVE + "".join(placed) + _RESTORE)

    def resized(self) -> None:
        """Reserve and draw anew."""
        self.release()
        if self._newest:
            self.show(self._newest)

    def release(self) -> None:
        """Give the lines back; the next view reserves them again."""
        if self._top:
            self._write(f"{_SAVE}\x1b[r\x1b[{self._top};1H{_CLEAR_BELOW}{_RESTORE}")
            self._top = 0

    def _reserve(self, height: int, lines: int) -> None:
        if self._top:
            return
        self._top = height - lines + 1
        make_room = _DOWN * lines + f"\x1b[{lines}A"
        self._write(f"{make_room}{_SAVE}\x1b[1;{height - lines}r{_RESTORE}")

    def _is_ours(self) -> bool:
        try:
            return os.tcgetpgrp(self._stream.fileno()) == os.getpgrp()
        except OSError:  # a terminal, but not the one that controls this session
            return True

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
