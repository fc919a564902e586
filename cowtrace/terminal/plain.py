"""Write what rich draws as plain text: no escapes, no padding, 80 columns."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console, RenderableType

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
