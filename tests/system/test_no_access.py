"""Another process writes pages without access rights (PROT_NONE): each copy is counted once.

The kernel flushes no TLB for them, at which the fentry plan counts copies: see bpf/no_access.h.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cowtrace import tracer
from cowtrace.kernel.plan import PlanName
from cowtrace.kernel.preemption import preemptible
from cowtrace.libc import libc
from cowtrace.model import FaultKind
from cowtrace.workloads import calls
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [pytest.mark.vm, pytest.mark.spread("6.1", "6.12", "7.2")]

PAGE = mmap.PAGESIZE
WRITTEN, READ = 254, 127  # before the fork; a write crosses from one page to the next
ZEROES = REGION_START + WRITTEN * PAGE
UNTOUCHED = ZEROES + READ * PAGE
SIZE = UNTOUCHED + READ * PAGE - REGION_START


@contextmanager
def child_without_access() -> Iterator[int]:
    """A child that may not access its pages, which it shares with this process."""
    fixed = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
    call = libc().mmap
    call.restype = ctypes.c_void_p
    at = call(ctypes.c_void_p(REGION_START), ctypes.c_size_t(SIZE), 3, fixed, -1, ctypes.c_long(0))
    assert at == REGION_START
    calls.madvise(at, SIZE, 15)  # MADV_NOHUGEPAGE
    ctypes.memset(at, 1, WRITTEN * PAGE)
    for page in range(READ):
        assert ctypes.string_at(ZEROES + page * PAGE, 1) == b"\0"
    done, say = os.pipe()
    if not (child := os.fork()):
        calls.mprotect(at, SIZE, calls.PROT_NONE)
        os.write(say, b"1")
        signal.pause()
    try:
        os.read(done, 1)
        calls.ptrace(calls.PTRACE_ATTACH, child)
        os.waitpid(child, 0)
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(done)
        os.close(say)
        libc().munmap(ctypes.c_void_p(at), ctypes.c_size_t(SIZE))


def write(memory: int) -> None:
    for page in range(0, WRITTEN, 2):
        assert os.pwrite(memory, b"23", REGION_START + (page + 1) * PAGE - 1) == 2
    for page in range(READ):
        assert os.pwrite(memory, b"2", ZEROES + page * PAGE) == 1
        assert os.pwrite(memory, b"2", UNTOUCHED + page * PAGE) == 1


@pytest.mark.parametrize("plan", ["fentry", "kprobe"])
def test_each_copy_counts_once_for_the_owner_of_the_memory(plan: PlanName) -> None:
    with (
        child_without_access() as child,
        tracer.attach(plan, region=(REGION_START, REGION_END)) as live,
    ):
        memory = os.open(f"/proc/{child}/mem", os.O_RDWR)
        write(memory)
        write(memory)  # its own pages now: nothing is copied
        os.close(memory)
        found = live.snapshot()
    (owner,) = (process for process in found.processes if process.pid == child)
    copied, zero_filled = (owner.count(k) or 0 for k in (FaultKind.COPIED, FaultKind.ZERO_FILLED))
    if preemptible() and found.completeness.lost:
        assert copied + zero_filled + found.completeness.lost >= WRITTEN + READ
        return
    assert (copied, zero_filled, found.completeness.lost) == (WRITTEN, READ, 0)
    assert {
        row.actor for row in owner.rows if row.kind in (FaultKind.COPIED, FaultKind.ZERO_FILLED)
    } == {os.getpid()}
