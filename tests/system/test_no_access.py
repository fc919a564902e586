"""Another process writes pages without access rights (PROT_NONE): each copy is counted once.

The kernel flushes no TLB for them, at which the fentry plan counts copies: see bpf/no_access.h.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cowtrace import tracer
from cowtrace.kernel.plan import PlanName
from cowtrace.kernel.preemption import preemptible
from cowtrace.libc import libc
from cowtrace.model import FaultKind, Source
from cowtrace.workloads import calls
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [pytest.mark.vm, pytest.mark.spread("6.1", "6.12", "7.2")]

PAGE = mmap.PAGESIZE
WRITTEN, READ = 254, 127  # before the fork; a write crosses from one page to the next
ZEROES = REGION_START + WRITTEN * PAGE
OF_FILE = ZEROES + READ * PAGE
UNTOUCHED = OF_FILE + READ * PAGE
SIZE = UNTOUCHED + READ * PAGE - REGION_START


@contextmanager
def child_without_access(file: Path) -> Iterator[int]:
    """A child that may not access its pages, which it shares with this process."""
    fixed = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
    call = libc().mmap
    call.restype = ctypes.c_void_p
    at = call(ctypes.c_void_p(REGION_START), ctypes.c_size_t(SIZE), 3, fixed, -1, ctypes.c_long(0))
    assert at == REGION_START
    with suppress(OSError):  # a kernel without huge pages
        calls.madvise(at, SIZE, 15)  # MADV_NOHUGEPAGE
    ctypes.memset(at, 1, WRITTEN * PAGE)
    file.write_bytes(b"1" * READ * PAGE)
    with file.open("rb") as opened:
        private, size = mmap.MAP_PRIVATE | 0x10, ctypes.c_size_t(READ * PAGE)  # MAP_FIXED
        offset = ctypes.c_long(0)
        assert call(ctypes.c_void_p(OF_FILE), size, 3, private, opened.fileno(), offset) == OF_FILE
    for page in range(READ):
        assert ctypes.string_at(ZEROES + page * PAGE, 1) == b"\0"
    done, say = os.pipe()
    if not (child := os.fork()):
        try:
            for page in range(READ):  # fork leaves pages of a file to be mapped again
                ctypes.string_at(OF_FILE + page * PAGE, 1)
            calls.mprotect(at, SIZE, calls.PROT_NONE)
            os.write(say, b"1")
            signal.pause()
        finally:
            os._exit(1)
    os.close(say)
    try:
        assert os.read(done, 1) == b"1"
        calls.ptrace(calls.PTRACE_ATTACH, child)
        os.waitpid(child, 0)
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(done)
        libc().munmap(ctypes.c_void_p(at), ctypes.c_size_t(SIZE))


def write(memory: int) -> None:
    for page in range(0, WRITTEN, 2):
        assert os.pwrite(memory, b"23", REGION_START + (page + 1) * PAGE - 1) == 2
    for page in range(READ):
        assert os.pwrite(memory, b"2", ZEROES + page * PAGE) == 1
        assert os.pwrite(memory, b"2", OF_FILE + page * PAGE) == 1
        assert os.pwrite(memory, b"2", UNTOUCHED + page * PAGE) == 1


@pytest.mark.parametrize("plan", ["fentry", "kprobe"])
def test_each_copy_counts_once_for_the_owner_of_the_memory(plan: PlanName, tmp_path: Path) -> None:
    with (
        child_without_access(tmp_path / "file") as child,
        tracer.attach(plan, region=(REGION_START, REGION_END)) as live,
    ):
        memory = os.open(f"/proc/{child}/mem", os.O_RDWR)
        write(memory)
        write(memory)  # its own pages now: nothing is copied
        os.close(memory)
        found = live.snapshot()
    (owner,) = (process for process in found.processes if process.pid == child)
    copied, zero_filled = (owner.count(k) or 0 for k in (FaultKind.COPIED, FaultKind.ZERO_FILLED))
    if preemptible() and found.completeness.lost:  # a skipped run can hide two pages
        assert copied + zero_filled + 2 * found.completeness.lost >= WRITTEN + 2 * READ
        return
    assert (copied, zero_filled, found.completeness.lost) == (WRITTEN + READ, READ, 0)
    assert {row.source: row.faults for row in owner.rows if row.kind is FaultKind.COPIED} == {
        Source.ANON: WRITTEN,
        Source.FILE: READ,
    }
    assert {
        row.actor for row in owner.rows if row.kind in (FaultKind.COPIED, FaultKind.ZERO_FILLED)
    } == {os.getpid()}
