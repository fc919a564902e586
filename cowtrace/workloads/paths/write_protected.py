"""Write pages that are write-protected but that only one process holds: nothing is copied."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cowtrace.workloads import calls, features, pagemap
from cowtrace.workloads.features import Unsupported
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
    claim="shared memory that nobody could access for a while is copied when it is written",
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


_PATIENCE = 10  # seconds
_EVENT_BYTES = 32  # struct uffd_msg; the address is at 16
_SOFT_DIRTY = 1 << 55  # of a pagemap entry


def _userfaultfd(pages: int) -> tuple[Expected, ...]:
    """Removing the protection makes the entry writable at once where this function is global.

    "mm/userfaultfd: rely on vma->vm_page_prot in uffd_wp_range()" and others (6.2); before, the
    stopped write faults again, and re-marks the page.
    """
    return (parent(reused=0 if features.has_function("can_change_pte_writable") else pages),)


@workload(
    _userfaultfd,
    frames=1,
    group="not a copy",
    claim="a write that userfaultfd's write protection stopped is not a copy",
    unseen_by={"tracepoint": "it counts faults handed to user space as reused"},
)
def userfaultfd_protect(me: Writer) -> None:
    """userfaultfd protects pages, a thread allows each write: nothing is copied"""
    me.populate(BEFORE)
    with protected_by_userfaultfd(me) as uffd:
        seen = write_when_allowed(me, uffd, protected=False)
    me.note("userfaultfd", "pages that it reported", me.region.pages, seen)
    me.expect(PARENT)


@contextmanager
def protected_by_userfaultfd(me: Writer) -> Iterator[int]:
    """A userfaultfd that receives the first write to each page of the region."""
    start, size = me.region.start, me.region.size_bytes
    try:
        uffd = calls.userfaultfd_wp(start, size)
    except (OSError, KeyError) as error:
        reason = "not allowed" if isinstance(error, PermissionError) else "no write protection"
        raise Unsupported(f"userfaultfd: {reason}") from error
    calls.write_protect(uffd, start, size, on=True)
    try:
        yield uffd
    finally:
        os.close(uffd)


def write_when_allowed(me: Writer, uffd: int, *, protected: bool = True) -> int:
    """Write PARENT to each page, which a thread allows when it is reported; how many were."""
    region, seen = me.region, set[int]()

    def let_pass() -> None:
        while len(seen) < region.pages:
            (address,) = struct.unpack_from("=Q", os.read(uffd, _EVENT_BYTES), 16)
            page = address & -PAGE_BYTES
            seen.add(page)
            calls.write_protect(uffd, page, PAGE_BYTES, on=False)

    watcher = threading.Thread(target=let_pass, daemon=True)
    watcher.start()
    with me.watch(protected=protected):
        for page in range(region.pages):
            ctypes.memset(region.addresses[page], PARENT, 1)  # lets the other thread run
        watcher.join(_PATIENCE)  # it has ended, unless writes passed unreported
    return len(seen)


@workload(
    lambda pages: (parent(reused=pages),),
    frames=1,
    group="not a copy",
    claim="a write to a page that soft-dirty tracking protects re-marks it, and copies nothing",
)
def soft_dirty(me: Writer) -> None:
    """soft-dirty bits are cleared (/proc/self/clear_refs), then every page is written"""
    me.populate(BEFORE)
    if not soft_dirty_pages(me):
        raise Unsupported("kernel built without CONFIG_MEM_SOFT_DIRTY")
    Path("/proc/self/clear_refs").write_text("4", encoding="ascii")
    me.note("pagemap", "soft-dirty pages after clearing", 0, soft_dirty_pages(me))
    me.write(PARENT)
    me.note("pagemap", "soft-dirty pages after the write", me.region.pages, soft_dirty_pages(me))
    me.expect(PARENT)


def soft_dirty_pages(me: Writer) -> int:
    return sum(bool(entry & _SOFT_DIRTY) for entry in pagemap.region_entries(me.region))
