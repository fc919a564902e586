"""Write shared memfds and files, a stack that grows, and swapped-out pages."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from contextlib import AbstractContextManager
from typing import IO

from cowtrace.workloads import calls, features, pagemap, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.mappings import shared_writes
from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.region import PAGE_BYTES, Backing, map_over
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_SWAPPED = 1 << 62  # of a pagemap entry
_LEAST_SWAP_BYTES = 16 << 20


@workload(
    lambda pages: (parent(shared=pages), child(shared=pages)),
    backing=Backing.SHMEM,
    frames=1,
    group="shared mapping",
    claim="a memfd mapped MAP_SHARED stays shared after fork",
)
def shmem_writes(me: Writer) -> None:
    """parent and child write a memfd's MAP_SHARED pages: nothing is copied"""
    shared_writes(me)


@workload(
    lambda pages: (parent(shared=pages), child(shared=pages)),
    frames=1,
    group="shared mapping",
    claim="memory of memfd_secret stays shared after fork, and no one can read it but its holders",
)
def memfd_secret_writes(me: Writer) -> None:
    """parent and child write memfd_secret's pages: no copy; no call can read them"""
    file = _secret_file(me.region.size_bytes)
    me.region = map_over(me.region, Backing.SHMEM, flags=mmap.MAP_SHARED, file=file)
    shared_writes(me)
    try:
        calls.vm_read(os.getpid(), me.region.addresses)
        refused = "read"
    except OSError as error:
        refused = errno.errorcode[error.errno or 0]
    me.note("process_vm_readv", "of its pages", "EFAULT", refused)


def _secret_file(size: int) -> IO[bytes]:
    """Enabled unless the boot says otherwise since "mm/secretmem: make it on by default" (6.5)."""
    try:
        file = os.fdopen(calls.memfd_secret(), "r+b", buffering=0)  # it cannot seek
    except OSError as error:
        why = "CONFIG_SECRETMEM, and before 6.5 secretmem.enable=1 at boot"
        raise Unsupported(f"there is no memfd_secret: it needs {why}") from error
    file.truncate(size)
    return file


@workload(
    # The first write is mapped by finish_fault(); writeback then protects the page again, so
    # that the next write faults: do_wp_page(), page_mkwrite().
    lambda pages: (parent(shared=2 * pages),),
    backing=Backing.SHARED_FILE,
    frames=1,
    group="shared mapping",
    claim="a file's MAP_SHARED page that was written back is written again without a copy",
    unseen_without_table="it counts re-marked pages of shared files as reused",
)
def shared_file_writeback(me: Writer) -> None:
    """writes a shared file mapping, syncs it, writes it again: nothing is copied"""
    me.write(CHILD)
    calls.msync(me.region.start, me.region.size_bytes)
    me.write(PARENT)
    me.expect(PARENT)
    me.expect_that(me.region.load_from_file() == {PARENT})


@workload(
    lambda pages: (parent(), child(copied=pages)),
    backing=Backing.STACK,
    most=(4 << 20) // PAGE_BYTES,  # it grows twice: the usual limit on a stack is 8 MiB
    group="stack",
    claim="a stack that grows gets new pages: only those that fork made shared are copied",
)
def stack_growth(me: Writer) -> None:
    """a stack grows, fork shares it; the child writes it (copied), grows it (no copy)"""
    _grow(me, 0)
    with me.fork() as other:
        other.do(Writer.write, CHILD)
        other.do(_grow, me.region.pages)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _grow(me: Writer, deep: int) -> None:
    """Write as many pages as the region has, downwards from `deep` pages below the top."""
    top = me.region.start + me.region.size_bytes
    for page in range(deep, deep + me.region.pages):
        ctypes.memset(top - (page + 1) * me.region.page_bytes, BEFORE, 1)


def swap(pages: int) -> AbstractContextManager[None]:
    """A swap file with room for them."""
    return settings.swap(max(_LEAST_SWAP_BYTES, 4 * pages * PAGE_BYTES))


def swap_out(me: Writer) -> None:
    """Swap the region out. Raises Unsupported if some of it stays."""
    calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_PAGEOUT)
    swapped = swapped_pages(me)
    if swapped != me.region.pages:
        raise Unsupported(f"the kernel swapped out {swapped} of {me.region.pages} pages")
    me.note("pagemap", "pages swapped out", me.region.pages, swapped)


def swapped_pages(me: Writer) -> int:
    """Pages of the region that are swapped out in this process."""
    return sum(bool(entry & _SWAPPED) for entry in pagemap.region_entries(me.region))


@workload(
    # do_swap_page() reads the page in; another process still refers to its swap slot, so it calls
    # do_wp_page(). On every kernel so far.
    lambda pages: (parent(), child(copied=pages)),
    frames=3,
    needs=swap,
    group="swapped-out page",
    claim="a shared page that is swapped out is read back and copied when it is written",
    unseen_by={"tracepoint": "the page is not present as the fault begins"},
)
def swapped_out(me: Writer) -> None:
    """pages are swapped out, then fork; the child writes them: read back, then copied"""
    me.populate(BEFORE)
    swap_out(me)
    with me.fork() as other:
        other.do(write_swapped)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)  # reads them in for the parent
        theirs = other.do(Writer.frames)
        me.note_frames("child: frames that are not the parent's", me.frames(), theirs, differ=True)


def write_swapped(me: Writer) -> None:
    """Write the region, which is swapped out."""
    me.write(CHILD)
    me.frames_cannot_show("copied")  # the page had no frame before


def last_is_re_marked() -> bool:
    """Whether do_swap_page() maps the page of the last writer read-only, so that it is re-marked.

    7.2 does, 6.18 maps it writable. "mm, swap: cleanup swap entry management workflow" (7.0), which
    frees a place in swap later, is its sign.
    """
    return features.has_type("folio_put_swap")
