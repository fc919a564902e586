"""Write a tree of calls as folded stacks, the input of flamegraph.pl.

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
