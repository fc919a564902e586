"""Show that processes never share page tables: what would share them is absent from Linux.

A kernel that has it makes these checks fail, so that its arrival is noticed.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
from functools import partial
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.libc import checked, libc
from cowtrace.workloads import calls
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.mappings import shared_writes
from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.region import HUGE_BYTES, Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, Writer

_MAP_NORESERVE = 0x4000  # for a mapping that may be larger than memory
_FSOPEN = 430  # the same on every architecture
_MSHARE = "msharefs"  # as the patches "Add support for shared PTEs across processes" name it
_TABLES = re.compile(r"^VmPTE:\s+(\d+) kB$", re.MULTILINE)

_absent = partial(workload, group="absent")


@_absent(
    lambda pages: (parent(), child(copied=pages)),
    most=251,  # so that one table of the next level holds all these tables
    claim="page tables are not copy-on-write: fork copies those of private memory at once",
)
def page_table_copies(me: Writer) -> None:
    """a page in each of many page tables, then fork: the child has as many of its own"""
    me.populate(BEFORE)
    size = me.region.pages * HUGE_BYTES  # behind the region: as many page tables as it has pages
    start = me.region.start + -(-me.region.size_bytes // HUGE_BYTES) * HUGE_BYTES
    calls.map_anew(start, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    before = _table_bytes()
    for address in range(start, start + size, HUGE_BYTES):
        ctypes.memset(address, BEFORE, 1)
    wanted = me.region.pages * mmap.PAGESIZE  # a table is one page
    me.note("VmPTE", "parent: bytes of these page tables", wanted, _table_bytes() - before)
    with me.fork() as other:
        freed = other.do(_unmap, start, size)
        me.note("VmPTE", "child: bytes of these page tables, before it writes", wanted, freed)
        other.do(Writer.write, CHILD)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _unmap(me: Writer, start: int, size: int) -> int:
    """Unmap memory; how many bytes of this process's page tables that frees."""
    _table_bytes()  # what reading them takes is mapped now
    before = _table_bytes()
    calls.munmap(start, size)
    return before - _table_bytes()


def _table_bytes() -> int:
    """The kernel's mm->pgtables_bytes."""
    found = _TABLES.search(Path("/proc/self/status").read_text(errors="replace"))
    if not found:
        raise CowtraceError("/proc/self/status has no VmPTE", hint="please report this")
    return int(found[1]) * 1024


@_absent(
    lambda pages: (parent(shared=pages), child(shared=pages)),
    backing=Backing.SHARED_ANONYMOUS,
    frames=1,
    claim="there is no mshare: processes that share memory have page tables of their own",
)
def mshare(me: Writer) -> None:
    """the file system msharefs is asked for; shared memory faults in each process"""
    me.note("fsopen", f"file system {_MSHARE}", "unknown", _is_known(_MSHARE))
    listed = Path("/proc/filesystems").read_text(encoding="ascii").split()
    me.note("/proc/filesystems", f"lines with {_MSHARE}", 0, listed.count(_MSHARE))
    shared_writes(me)


def _is_known(name: str) -> str:
    """Whether the kernel has a file system of that name; nothing is mounted."""
    try:
        os.close(checked(libc().syscall(_FSOPEN, name.encode(), 0)))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return "unknown"
        raise Unsupported(f"fsopen(2): {error.strerror}") from error
    return "known"
