"""A tree of calls -> folded stacks, as flamegraph.pl and its like read them.

A line for each stack: the process name and the calls, the outermost first, joined by `;`, then
a space and the bytes copied.
"""

from __future__ import annotations

from typing import TextIO

from cowtrace.analysis.stacks import Node, leaves


def write(stream: TextIO, root: Node) -> None:
    """All stacks, the ones that copied most first in each branch."""
    for calls, copied in leaves(root):
        names = ";".join(call.label.replace(";", "\\x3b") for call in calls)
        stream.write(f"{names} {copied}\n")
