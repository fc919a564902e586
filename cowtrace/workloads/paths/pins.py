"""Workloads on pages that the kernel pins: for reading, for writing, and across fork."""

from __future__ import annotations

import errno
import os
import tempfile

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads import calls, features
from cowtrace.workloads.counts import Expected, ExpectedRow
from cowtrace.workloads.expectations import child, copied, parent
from cowtrace.workloads.forks import BEFORE, CHILD, PARENT
from cowtrace.workloads.region import PAGE_BYTES, Region
from cowtrace.workloads.unsupported import CannotHere
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writing_process import Actor

_UNSEEN = {"tracepoint": "no exception is raised when the kernel pins a page"}


def _unshared(pages: int, *, pinned: bool) -> tuple[Expected, ...]:
    """A read-only pin of a shared page copies it where the kernel has FAULT_FLAG_UNSHARE.

    "mm: support GUP-triggered unsharing of anonymous pages" (5.19). Older ones pin the page that
    is shared, and the next write copies it.
    """
    if not pinned or not features.has_type("FAULT_FLAG_UNSHARE"):
        return (parent(), child(copied(pages)))
    remarked = ExpectedRow(FaultKind.REUSED, Source.ANON, Origin.USER, pages, 0)
    return (parent(), child(copied(pages, origin=Origin.UNSHARE), remarked))


@workload(
    lambda pages: _unshared(pages, pinned=True),
    group="unshare",
    claim="a read by process_vm_readv pins the pages it reads: shared ones are copied for it",
    unseen_by=_UNSEEN,
)
def unshare_vm_readv(me: Actor) -> None:
    """the child's pages are read by process_vm_readv, then the child writes them"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(_read_own_pages)
        me.expect(BEFORE)
        other.do(Actor.write, CHILD)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)


def _read_own_pages(me: Actor) -> None:
    def read(region: Region) -> None:
        end = region.start + region.size_bytes
        calls.vm_read(os.getpid(), range(region.start, end, PAGE_BYTES))

    me.act(read, every_page=False)
    me.expect(BEFORE)


def _unshared_by_parent(pages: int) -> tuple[Expected, ...]:
    if not features.has_type("FAULT_FLAG_UNSHARE"):
        return (parent(), child())
    return (parent(), child(copied(pages, origin=Origin.UNSHARE, actor="parent")))


@workload(
    _unshared_by_parent,
    group="unshare",
    claim="a debugger that only reads shared pages has them copied, charged to their owner",
    unseen_by=_UNSEEN,
)
def unshare_remote_readv(me: Actor) -> None:
    """the parent reads the child's pages by process_vm_readv: copied in the child"""
    me.populate(BEFORE)
    with me.fork() as other:
        mine, theirs = me.frames(), other.do(Actor.frames)
        end = me.region.start + me.region.size_bytes
        read = calls.vm_read(other.pid, range(me.region.start, end, PAGE_BYTES))
        me.expect_that(set(read) == {BEFORE})
        changed = sum(map(int.__ne__, theirs, other.do(Actor.frames)))
        wanted = me.region.pages if features.has_type("FAULT_FLAG_UNSHARE") else 0
        me.note("pagemap", "child: frames that changed when it was read", wanted, changed)
        kept = sum(map(int.__eq__, mine, me.frames()))
        me.note("pagemap", "parent: frames kept", me.region.pages, kept)
        other.do(Actor.cannot_tell, copied=None)  # it wrote nothing itself
        other.do(Actor.expect, BEFORE)


@workload(
    # bio_iov_iter_get_pages() pins, rather than takes a reference, where there is this function.
    lambda pages: _unshared(pages, pinned=features.has_function("iov_iter_extract_pages")),
    group="unshare",
    claim="shared pages written to a file with O_DIRECT are pinned, and copied for it",
    unseen_by=_UNSEEN,
)
def unshare_direct_io(me: Actor) -> None:
    """the child writes its pages to a file with O_DIRECT, which only reads them"""
    me.populate(BEFORE)
    me.region.fill(BEFORE)
    with me.fork() as other:
        other.do(_write_directly)
        me.expect(BEFORE)
        other.do(Actor.write, CHILD)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)


def _write_directly(me: Actor) -> None:
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        path = f"/proc/self/fd/{file.fileno()}"
        try:
            direct = os.open(path, os.O_WRONLY | os.O_DIRECT)
        except OSError as error:
            raise CannotHere(f"/var/tmp takes no O_DIRECT: {error.strerror}") from error
        with me.watch(every_page=False):  # rehearsals would take a disk long
            os.pwrite(direct, me.region.view, 0)
        os.close(direct)
        file.seek(0)
        me.expect_that(file.read() == bytes([BEFORE]) * me.region.size_bytes)


@workload(
    lambda pages: (parent(), child(copied(pages, origin=Origin.KERNEL))),
    group="pinned page",
    claim="registering shared memory as io_uring buffers copies it at once, in kernel mode",
    unseen_by=_UNSEEN,
)
def io_uring_buffers(me: Actor) -> None:
    """the child's pages become io_uring buffers: pinned for writing, so copied"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(_pin_and_write)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)


def _pin_and_write(me: Actor) -> None:
    rings: list[int] = []
    me.act(lambda region: rings.append(_pin(region)), every_page=False)
    me.act(lambda region: region.store(CHILD), every_page=False)
    for ring in rings:
        os.close(ring)


def _pin(region: Region) -> int:
    try:
        return calls.pin_for_io_uring(region.start, region.size_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            raise CannotHere("io_uring is not in this kernel, or not allowed") from error
        raise


@workload(
    lambda pages: (parent(copied(pages, origin=Origin.FORK)), child()),
    group="pinned page",
    claim="fork copies pages that are pinned, at once and without a fault",
    unseen_by={"tracepoint": "fork raises no exception"},
    fork_copies=True,
)
def pinned_fork(me: Actor) -> None:
    """the parent's pages are pinned by io_uring when it forks: fork copies them"""
    me.populate(BEFORE)
    ring = _pin(me.region)
    mine = me.frames()
    with me.fork() as other:
        theirs = other.do(Actor.frames)
        differing = sum(map(int.__ne__, mine, theirs))
        me.note("pagemap", "child: frames that are not the parent's", len(mine), differing)
        kept = sum(map(int.__eq__, mine, me.frames()))
        me.note("pagemap", "parent: frames kept", len(mine), kept)
        me.cannot_tell(copied=None)  # no frame of the parent's changes
        me.write_unprotected(PARENT)
        other.do(Actor.expect, BEFORE)
        other.do(Actor.write_unprotected, CHILD)
        me.expect(PARENT)
    os.close(ring)
