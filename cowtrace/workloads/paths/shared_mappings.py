"""Write memory that is mapped MAP_SHARED: memfds and files."""

from __future__ import annotations

import errno
import mmap
import os
from functools import partial
from typing import IO

from cowtrace.workloads import calls
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.mappings import shared_writes
from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.region import Backing, map_over
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import CHILD, PARENT, Writer

_shared = partial(workload, frames=1, group="shared mapping")


@_shared(
    lambda pages: (parent(shared=pages), child(shared=pages)),
    backing=Backing.SHMEM,
    claim="a memfd mapped MAP_SHARED stays shared after fork",
)
def shmem_writes(me: Writer) -> None:
    """parent and child write a memfd's MAP_SHARED pages: nothing is copied"""
    shared_writes(me)


@_shared(
    lambda pages: (parent(shared=pages), child(shared=pages)),
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


@_shared(
    # The first write is mapped by finish_fault(); writeback then protects the page again, so
    # that the next write faults: do_wp_page(), page_mkwrite().
    lambda pages: (parent(shared=2 * pages),),
    backing=Backing.SHARED_FILE,
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
