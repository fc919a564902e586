"""Workloads on pages that only one process holds, and that are write-protected all the same."""

from __future__ import annotations

import mmap
import os
import resource

from cowtrace.workloads import calls, pagemap
from cowtrace.workloads.actor import Actor
from cowtrace.workloads.counts import Expected
from cowtrace.workloads.foretell import child, parent
from cowtrace.workloads.forks import BEFORE, PARENT
from cowtrace.workloads.region import PAGE_BYTES
from cowtrace.workloads.workload import workload


def _mprotect(pages: int) -> tuple[Expected, ...]:
    """Kernels differ, see `_faults_after_mprotect`."""
    return (parent(reused=pages if _faults_after_mprotect() else 0),)


@workload(
    _mprotect,
    frames=1,
    group="exclusive page",
    claim="memory made read-only and writable again is not copied when it is written",
)
def mprotect_round_trip(me: Actor) -> None:
    """mprotect to read-only and back, then writes: re-marked, or not even a fault"""
    me.populate(BEFORE)
    _protect_and_back(me.region.start, me.region.size_bytes)
    me.write_unprotected(PARENT)
    me.expect(PARENT)


def _protect_and_back(start: int, size: int) -> None:
    calls.mprotect(start, size, calls.PROT_READ)
    calls.mprotect(start, size, calls.PROT_READ | calls.PROT_WRITE)


def _faults_after_mprotect() -> bool:
    """Whether a page that mprotect made writable again still faults.

    Not since "mm/mprotect: try avoiding write faults for exclusive anonymous pages when changing
    protection" (5.19). Found by doing it to a page elsewhere.
    """
    with mmap.mmap(-1, PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[0] = 1
        _protect_and_back(pagemap.address_of(page), PAGE_BYTES)
        faults = [_minor_faults(), _minor_faults()]
        page[0] = 2
        faults.append(_minor_faults())
    return faults[2] > faults[1]


def _minor_faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


@workload(
    lambda pages: (parent(reused=pages), child()),
    group="exclusive page",
    claim="pages that a process makes in system calls after a re-mark are no copies",
)
def remark_then_populate(me: Actor) -> None:
    """after each re-marked page, memory is populated by mmap and a file is written by calls"""
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
