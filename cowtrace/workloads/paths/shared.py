"""Write shared mappings of memfds and files."""

from __future__ import annotations

import mmap
import os

from cowtrace.workloads import calls
from cowtrace.workloads.mappings import shared_writes
from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.region import Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import CHILD, PARENT, Writer


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
    # The first write is mapped by finish_fault(); writeback then protects the page again, so
    # that the next write faults: do_wp_page(), page_mkwrite().
    lambda pages: (parent(shared=2 * pages),),
    backing=Backing.SHARED_FILE,
    frames=1,
    group="shared mapping",
    claim="a file's MAP_SHARED page that was written back is written again without a copy",
    unseen_by={"tracepoint": "it counts re-marked pages of shared files as reused"},
)
def shared_file_writeback(me: Writer) -> None:
    """writes a shared file mapping, syncs it, writes it again: nothing is copied"""
    file = me.region.file
    assert file is not None
    me.write(CHILD)
    calls.msync(me.region.start, me.region.size_bytes)
    me.write(PARENT)
    me.expect(PARENT)
    seen = {os.pread(file.fileno(), 1, page * mmap.PAGESIZE) for page in range(me.region.pages)}
    me.expect_that(seen == {bytes([PARENT])})
