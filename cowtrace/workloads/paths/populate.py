"""Populate or lock memory in one system call, around a fork."""

from __future__ import annotations

from functools import partial

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads import calls
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.proc_files import smaps_sizes
from cowtrace.workloads.outcome import Expected, ExpectedRow, child, copied, parent
from cowtrace.workloads.region import FILE_BYTE, PAGE_BYTES, Backing, Region
from cowtrace.workloads.workload import KERNEL_FAULT, workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_populated = partial(workload, group="populate and lock")


@_populated(
    lambda pages: (parent(), child(copied(pages, origin=Origin.KERNEL))),
    claim="MADV_POPULATE_WRITE copies shared pages in one system call, MADV_POPULATE_READ none",
    unseen_by=KERNEL_FAULT,
)
def populate_after_fork(me: Writer) -> None:
    """the child populates to read (no copy), to write (copied), then writes: no fault"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(_populate, calls.MADV_POPULATE_READ)
        me.note_frames("frames that are the child's too", me.frames(), other.do(Writer.frames))
        other.do(_populate, calls.MADV_POPULATE_WRITE)
        other.do(Writer.expect, BEFORE)
        faults = other.do(Writer.faults_of_write, CHILD)
        me.note_of_thread("rusage", "child: page faults of the write after it", 0, faults)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _populate(me: Writer, advice: int) -> None:
    def populate(region: Region) -> None:
        try:
            calls.madvise(region.start, region.size_bytes, advice)
        except OSError as error:  # "mm/madvise: introduce MADV_POPULATE_(READ|WRITE) ..."
            raise Unsupported("no MADV_POPULATE_WRITE, which came with 5.14") from error

    me.act(populate, every_page=advice == calls.MADV_POPULATE_WRITE)


@_populated(
    lambda pages: (parent(copied=pages), child()),
    claim="mlock before fork does not avoid copies: the parent's locked pages are copied",
)
def mlock_before_fork(me: Writer) -> None:
    """the parent locks its pages and forks, then writes them: copied, in the parent"""
    me.populate(BEFORE)
    calls.mlock(me.region.start, me.region.size_bytes)
    me.note("smaps", "parent: locked bytes", me.region.size_bytes, _locked_bytes(me))
    with me.fork() as other:
        me.note("smaps", "child: locked bytes", 0, other.do(_locked_bytes))
        me.write(PARENT)
        me.expect(PARENT)
        other.do(Writer.expect, BEFORE)


def _file_copied(pages: int) -> tuple[Expected, ...]:
    how = FaultKind.FILE_COPIED, Source.FILE, Origin.KERNEL
    return (parent(), child(ExpectedRow(*how, pages, pages * PAGE_BYTES)))


@_populated(
    _file_copied,
    backing=Backing.PRIVATE_FILE,
    claim="mlock of a writable private file mapping copies all its pages, before any write",
    unseen_by=KERNEL_FAULT,
)
def mlock_private_file(me: Writer) -> None:
    """the child locks a private file mapping that it never touched: all is copied"""
    with me.fork() as other:
        other.do(lock)
        other.do(Writer.expect, FILE_BYTE)
        other.do(Writer.write, CHILD, protected=False)
        me.expect_that(me.region.load_from_file() == {FILE_BYTE})


@_populated(
    lambda pages: (parent(), child(copied=pages)),
    claim="mlock2(MLOCK_ONFAULT) of shared pages copies none of them: each write copies its page",
)
def mlock_on_fault(me: Writer) -> None:
    """the child locks its pages on fault: no copy; then it writes them: copied"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(_lock_on_fault)
        me.note_frames("frames that are the child's too", me.frames(), other.do(Writer.frames))
        other.do(Writer.write, CHILD)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def lock(me: Writer) -> None:
    me.act(lambda region: calls.mlock(region.start, region.size_bytes))


def _lock_on_fault(me: Writer) -> None:
    calls.mlock_on_fault(me.region.start, me.region.size_bytes)


def _locked_bytes(me: Writer) -> int:
    return smaps_sizes(me.region.start, me.region.size_bytes).get("Locked", 0)
