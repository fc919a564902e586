"""Write pages after mprotect, or between system calls that allocate pages."""

from __future__ import annotations

import mmap
import os

from cowtrace.workloads import calls
from cowtrace.workloads.oracles.writes import Writes
from cowtrace.workloads.outcome import Expected, child, parent
from cowtrace.workloads.region import PAGE_BYTES, scratch_region
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_PROBED_PAGES = 64


def _after_mprotect(pages: int) -> tuple[Expected, ...]:
    """Pages that mprotect made writable again fault, or do not, by kernel version.

    Not since "mm/mprotect: try avoiding write faults for exclusive anonymous pages when changing
    protection" (5.19). Found by trying it on other pages.
    """
    with scratch_region(_PROBED_PAGES) as scratch:
        protect_and_back(scratch.start, scratch.size_bytes)
        writes = Writes()
        writes.count(lambda region: region.store(2), scratch)
    faults = writes.page_faults is None or writes.page_faults >= _PROBED_PAGES
    return (parent(reused=pages if faults else 0),)


@workload(
    _after_mprotect,
    frames=1,
    group="exclusive page",
    claim="memory made read-only and writable again is not copied when it is written",
)
def mprotect_round_trip(me: Writer) -> None:
    """mprotect to read-only and back, then writes: re-marked, or not even a fault"""
    me.populate(BEFORE)
    protect_and_back(me.region.start, me.region.size_bytes)
    me.write(PARENT, protected=False)
    me.expect(PARENT)


def protect_and_back(start: int, size: int) -> None:
    """Make memory read-only, and writable again."""
    calls.mprotect(start, size, calls.PROT_READ)
    calls.mprotect(start, size, calls.PROT_READ | calls.PROT_WRITE)


@workload(
    lambda pages: (parent(), child(copied=pages)),
    group="C4",
    claim="shared memory that was PROT_NONE for a while is copied when it is written",
)
def prot_none_round_trip(me: Writer) -> None:
    """the child makes its pages PROT_NONE and writable again, and writes them: copied"""
    me.child_writes(_forbid_allow_write)


def _forbid_allow_write(me: Writer) -> None:
    mine = me.frames()
    start, size = me.region.start, me.region.size_bytes
    calls.mprotect(start, size, calls.PROT_NONE)
    calls.mprotect(start, size, calls.PROT_READ | calls.PROT_WRITE)
    me.expect_that(me.frames() == mine)
    me.write(CHILD)


@workload(
    lambda pages: (parent(reused=pages), child()),
    group="exclusive page",
    claim="pages that system calls allocate after a re-mark are not counted as copies",
)
def remark_then_populate(me: Writer) -> None:
    """after each re-marked page, system calls populate memory and write a file"""
    me.populate(BEFORE)
    with me.fork():
        pass
    folder = os.open("/var/tmp", os.O_TMPFILE | os.O_RDWR)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    with me.watch():
        for page in range(me.region.pages):
            me.region.view[page * PAGE_BYTES] = PARENT
            with mmap.mmap(-1, PAGE_BYTES, flags=flags):
                os.pwrite(folder, bytes(PAGE_BYTES), page * PAGE_BYTES)
    os.close(folder)
    me.expect(PARENT)
