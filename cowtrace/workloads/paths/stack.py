"""Write a stack that grows after a fork."""

from __future__ import annotations

import ctypes

from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.region import PAGE_BYTES, Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, Writer


@workload(
    lambda pages: (parent(), child(copied=pages)),
    backing=Backing.STACK,
    most=(4 << 20) // PAGE_BYTES,  # it grows twice: the usual limit on a stack is 8 MiB
    group="stack",
    claim="a stack that grows gets new pages: only those that fork made shared are copied",
)
def stack_growth(me: Writer) -> None:
    """a stack grows, fork shares it; the child writes it (copied), grows it (no copy)"""
    _grow(me, 0)
    with me.fork() as other:
        other.do(Writer.write, CHILD)
        other.do(_grow, me.region.pages)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _grow(me: Writer, deep: int) -> None:
    """Write as many pages as the region has, downwards from `deep` pages below the top."""
    top = me.region.start + me.region.size_bytes
    for page in range(deep, deep + me.region.pages):
        ctypes.memset(top - (page + 1) * me.region.page_bytes, BEFORE, 1)
