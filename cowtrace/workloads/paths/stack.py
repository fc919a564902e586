"""A workload on memory that grows downwards, as a stack does."""

from __future__ import annotations

import ctypes

from cowtrace.workloads.expectations import child, parent
from cowtrace.workloads.forks import BEFORE, CHILD
from cowtrace.workloads.region import PAGE_BYTES, Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writing_process import Actor


@workload(
    lambda pages: (parent(), child(copied=pages)),
    backing=Backing.STACK,
    most=(4 << 20) // PAGE_BYTES,  # twice: the limit on a stack's size is 8 MiB as a rule
    group="stack",
    claim="a stack that grows gets new pages: only those that fork made shared are copied",
)
def stack_growth(me: Actor) -> None:
    """a stack grows, fork shares it; the child writes it (copied), grows it (no copy)"""
    _grow(me, 0)
    with me.fork() as other:
        other.do(Actor.write, CHILD)
        other.do(_grow, me.region.pages)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)


def _grow(me: Actor, deep: int) -> None:
    """Write one page after the other below the top of the stack, from `deep` pages below it."""
    top = me.region.start + me.region.size_bytes
    for page in range(deep, deep + me.region.pages):
        ctypes.memset(top - (page + 1) * me.region.page_bytes, BEFORE, 1)
