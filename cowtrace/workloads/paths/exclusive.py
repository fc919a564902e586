"""Write pages that are write-protected although only one process holds them."""

from __future__ import annotations

import mmap
import os

from cowtrace.workloads import calls
from cowtrace.workloads.oracles.writes import Writes
from cowtrace.workloads.outcome import Expected, child, parent
from cowtrace.workloads.region import PAGE_BYTES, scratch_region
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, PARENT, Writer

_PROBED_PAGES = 64


def _mprotect(pages: int) -> tuple[Expected, ...]:
    """Kernels differ, see `_faults_after_mprotect`."""
    return (parent(reused=pages if _faults_after_mprotect() else 0),)


@workload(
    _mprotect,
    frames=1,
    group="exclusive page",
    claim="memory made read-only and writable again is not copied when it is written",
)
def mprotect_round_trip(me: Writer) -> None:
    """mprotect to read-only and back, then writes: re-marked, or not even a fault"""
    me.populate(BEFORE)
    _protect_and_back(me.region.start, me.region.size_bytes)
    me.write(PARENT, protected=False)
    me.expect(PARENT)


def _protect_and_back(start: int, size: int) -> None:
    calls.mprotect(start, size, calls.PROT_READ)
    calls.mprotect(start, size, calls.PROT_READ | calls.PROT_WRITE)


def _faults_after_mprotect() -> bool:
    """Whether a page that mprotect made writable again still faults.

    Not since "mm/mprotect: try avoiding write faults for exclusive anonymous pages when changing
    protection" (5.19). Found by trying it on other pages.
    """
    with scratch_region(_PROBED_PAGES) as scratch:
        _protect_and_back(scratch.start, scratch.size_bytes)
        writes = Writes()
        writes.count(lambda region: region.store(2), scratch)
    return writes.page_faults is None or writes.page_faults >= _PROBED_PAGES


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
