"""Print one view to stdout: in colour on a terminal, plain and without padding on a pipe."""

from __future__ import annotations

import sys

from rich.console import RenderableType

from cowtrace.terminal import plain, screen


def show(view: RenderableType) -> None:
    """Print it and flush."""
    if sys.stdout.isatty():
        screen.console(sys.stdout).print(view)
    else:
        plain.write(plain.console(sys.stdout), view)
        sys.stdout.flush()
