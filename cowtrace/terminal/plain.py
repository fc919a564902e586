"""Write what rich draws as plain text: no escapes, no padding, 80 columns."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console, RenderableType

from cowtrace.text import COLUMNS


def write(stream: TextIO, drawable: RenderableType) -> None:
    """Write it and flush, so that the reader of a pipe sees each interval at once.

    Written by hand also because rich ends the program, with a code of its own, when nobody reads.
    """
    stream.write("".join(f"{line}\n" for line in lines(drawable, stream=stream)))
    stream.flush()


def lines(
    drawable: RenderableType, width: int = COLUMNS, stream: TextIO | None = None
) -> list[str]:
    """Render lines in the encoding of `stream`, without the blanks that pad rich's tables."""
    console = Console(
        file=stream or sys.stdout,
        width=COLUMNS,  # else rich asks the terminal
        color_system=None,
        force_terminal=False,
        force_interactive=False,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with console.capture() as captured:
        console.print(drawable, width=width)
    return [line.rstrip() for line in captured.get().splitlines()]
