"""Fault under the lock of a mapping or of the whole mm, and retry: the counts are the same.

"mm: add per-VMA lock and helper functions to control it" and others (6.4): a write fault of user
mode locks its mapping alone. Older kernels, faults of kernel mode, and faults that waited take the
mmap lock, which a tracepoint counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cowtrace.model import Origin
from cowtrace.workloads import features
from cowtrace.workloads.oracles.perf_events import mmap_locks
from cowtrace.workloads.outcome import Evidence, child, copied, of_thread, parent
from cowtrace.workloads.paths.fuse import mapped
from cowtrace.workloads.paths.remote import file_reader
from cowtrace.workloads.region import Region
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, Writer

_locked = partial(workload, group="VMA lock")


def _per_vma() -> bool:
    return features.has_type("lock_vma_under_rcu")


@_locked(
    lambda pages: (parent(), child(copied=pages)),
    claim="write faults of user mode take the mmap lock, since 6.4 the VMA's: one copy a page",
)
def user_mode_lock(me: Writer) -> None:
    """a child writes shared pages; its mmap lock is counted: once a page, or never"""
    me.populate(BEFORE)
    with me.fork() as other:
        _note_locks(me, 0 if _per_vma() else me.region.pages, other.do(_store))
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)
    lock = "the mapping's lock" if _per_vma() else "the mmap lock"
    me.findings.append(f"a write fault of user mode takes {lock}")


def _store(me: Writer) -> int | None:
    return _count_locks(me, lambda region: region.store(CHILD))


@_locked(
    lambda pages: (parent(), child(copied(pages, origin=Origin.KERNEL))),
    claim="write faults of kernel mode take the mmap lock, once a page: one copy a page",
)
def kernel_mode_lock(me: Writer) -> None:
    """a child reads a file into shared pages; its mmap lock is counted: once a page"""
    me.populate(BEFORE)
    with me.fork() as other:
        _note_locks(me, me.region.pages, other.do(_read_file))
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _read_file(me: Writer) -> int | None:
    with file_reader(me) as read:
        return _count_locks(me, read)


@_locked(
    lambda pages: (parent(), child(file_copied=pages)),
    claim="a write fault that waits, drops its lock and is retried is counted once",
)
def retried_fault(me: Writer) -> None:
    """a child writes private file pages that FUSE must read: each fault is retried"""
    with mapped(me) as note_reads, me.fork() as other:
        # Each fault takes the lock as it is retried. Its first try takes it where mappings have no
        # locks; where they have, only for the first page, which makes the mapping's anon_vma.
        tries = me.region.pages + (1 if _per_vma() else me.region.pages)
        _note_locks(me, tries, other.do(_store))
        note_reads()
        other.do(Writer.expect, CHILD)


def _count_locks(me: Writer, write: Callable[[Region], object]) -> int | None:
    """Write the region; how often this thread took an mmap lock meanwhile. None: unknown."""
    with mmap_locks() as locks:
        if locks is None:
            me.act(write)
            return None
        taken = 0

        def counted(region: Region) -> None:
            nonlocal taken
            before = locks()
            write(region)
            taken = locks() - before  # of the region's own at last, after the rehearsals

        me.act(counted)
    return taken


def _note_locks(me: Writer, wanted: int, seen: int | None) -> None:
    what = "child: mmap lock taken in its write"
    if seen is None:
        me.evidence.append(Evidence("perf", f"{what}: no tracepoint (5.11)", None, None, None))
    else:
        me.evidence.append(Evidence("perf", what, wanted, seen, of_thread(wanted, seen)))
