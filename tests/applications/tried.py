"""Applications for which it is known whether a remedy helps: for tests, and for the benchmark."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from command import COWTRACE

from applications.application import PYTHON

_FORK_THREE = """
for _ in range(3):
    if not (pid := os.fork()):
        {child}
    os.waitpid(pid, 0)
"""
_LISTS = "import gc, os, sys, time\nlists = [[n] for n in range(60_007)]\n"
_PAGES = "import os\npages = bytearray(2003 * 4096)\n"

# A full collection writes to the header of each object of the parent's.
COLLECTS = _LISTS + _FORK_THREE.format(child="gc.collect(); os._exit(0)")
# As does the collector by itself, when a child makes many objects.
ALLOCATES = _LISTS + _FORK_THREE.format(child="mine = [[n] for n in range(40_009)]; os._exit(0)")
# The interpreter's end writes to all objects, for it gives them up.
EXITS = _LISTS + _FORK_THREE.format(child="sys.exit(0)")
# What the program itself writes is copied whatever the interpreter does.
WRITES = _PAGES + _FORK_THREE.format(child="pages[::4096] = bytes(2003); os._exit(0)")
# Each thread frees what it allocated, but for the last piece: an arena of its own keeps it all.
THREADS = """
import threading, time
from ctypes import CDLL, c_void_p
libc = CDLL(None)
libc.malloc.restype, libc.free.argtypes = c_void_p, [c_void_p]
all_there, turn = threading.Barrier(8), threading.Lock()
def work():
    all_there.wait()
    with turn:
        pieces = [libc.malloc(60_000) for _ in range(200)]
        for piece in pieces:
            libc.memset(c_void_p(piece), 1, 60_000)
        for piece in pieces[:-1]:
            libc.free(piece)
    all_there.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
time.sleep(1.5)
"""
# One byte of each 2 MiB, in memory that asks for huge pages.
HUGE = """
import mmap, time
memory = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_HUGEPAGE)
for at in range(0, 64 << 20, 2 << 20):
    memory[at] = 1
time.sleep(1.5)
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A remedy that helps an application: by what share at least, in which quantity."""

    remedy: str
    what: str
    script: str
    quantity: str
    share: float  # -0.5: 50 % less


HELPS = (
    Known("gc-freeze", "children collect", COLLECTS, "copied", -0.8),
    Known("no-gc-in-child", "children make objects", ALLOCATES, "copied", -0.6),
    Known("os-exit", "children exit", EXITS, "copied", -0.6),
    Known("malloc-arena-max=1", "8 threads allocate", THREADS, "peak memory", -0.5),
    Known("thp=never", "a byte in each 2 MiB", HUGE, "peak memory", -0.5),
)
REMEDIES = tuple(each.remedy for each in HELPS)


def tried(script: str, remedies: Sequence[str], *options: str) -> dict[str, Any]:
    """What `cowtrace try --json` writes."""
    chosen = [word for remedy in remedies for word in ("--with", remedy)]
    ended = subprocess.run(
        [*COWTRACE, "try", "--json", *options, *chosen, "--", PYTHON, "-c", script],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def measure(comparison: dict[str, Any], name: str) -> dict[str, Any]:
    """A row of a comparison."""
    found: dict[str, Any] = next(row for row in comparison["measures"] if row["name"] == name)
    return found
