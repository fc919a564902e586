"""Fork children that write a known number of pages each, shared with this process."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cowtrace import tracer
from cowtrace.model import Snapshot
from cowtrace.tracer.filter import Filter
from cowtrace.workloads.region import REGION_END, REGION_START

PAGE = mmap.PAGESIZE
PAGES = 127
NS_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@contextmanager
def region_tracer(only: Filter = tracer.NO_FILTER) -> Iterator[tracer.Tracer]:
    with tracer.attach("auto", region=(REGION_START, REGION_END), only=only) as live:
        yield live


@contextmanager
def parent_of_writers() -> Iterator[Callable[..., int]]:
    """A function that forks a child, which writes so many pages shared with this process.

    It returns the child's pid when that has ended. `pid`: the one that it should have;
    `kill_after`: seconds after which it is killed, perhaps in the middle of a fault.
    """
    memory = ctypes.CDLL(None, use_errno=True)
    memory.mmap.restype = ctypes.c_void_p
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
    size = PAGES * PAGE
    at = memory.mmap(
        ctypes.c_void_p(REGION_START), ctypes.c_size_t(size), 3, flags, -1, ctypes.c_long(0)
    )
    assert at == REGION_START
    memory.madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), 15)  # MADV_NOHUGEPAGE
    ctypes.memset(at, 1, size)

    def write(pages: int, *, pid: int | None = None, kill_after: float | None = None) -> int:
        if pid is not None:
            NS_LAST_PID.write_text(f"{pid - 1}")
        child = os.fork()
        if not child:
            for page in range(pages):
                ctypes.memset(at + page * PAGE, 2, 1)
            os._exit(0)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return child

    try:
        yield write
    finally:
        memory.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size))


def sleeping_child() -> int:
    """Fork a child that does nothing until end() ends it."""
    if not (child := os.fork()):
        signal.pause()
    return child


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def copied(snapshot: Snapshot, pid: int) -> int:
    process = snapshot.process(pid)
    return process.copied_bytes // PAGE if process else 0


def cause(snapshot: Snapshot, name: str) -> int:
    """Faults lost by that cause."""
    return dict(snapshot.completeness.detail).get(name, 0)
