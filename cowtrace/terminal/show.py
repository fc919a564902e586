"""Print one view to stdout: in colour on a terminal, plain and without padding on a pipe."""

from __future__ import annotations

import sys

from rich.console import RenderableType

from cowtrace.terminal import plain
from cowtrace.terminal import screen as live


def show(view: RenderableType) -> None:
    """Print it and flush."""
    if sys.stdout.isatty():
        live.console(sys.stdout).print(view)
    else:
        plain.write(plain.console(sys.stdout), view)
        sys.stdout.flush()
