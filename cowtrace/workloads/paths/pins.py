"""Let the kernel pin pages: for reading, for writing, and across fork."""

from __future__ import annotations

import errno
import os
import tempfile
from functools import partial

from cowtrace.model import Origin
from cowtrace.workloads import calls, features
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import Expected, child, copied, parent, reused
from cowtrace.workloads.region import Region
from cowtrace.workloads.workload import KERNEL_FAULT, workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

# What fork copies is counted by kprobes where functions begin; 6.12 takes none of these on riscv64.
NO_KPROBES = {"fentry": "it takes a kprobe"} if os.uname().machine == "riscv64" else {}
_unshare = partial(workload, group="unshare", unseen_by=KERNEL_FAULT)


def _unshared(pages: int, *, pinned: bool) -> tuple[Expected, ...]:
    """A read-only pin of a shared page copies it where the kernel has FAULT_FLAG_UNSHARE.

    "mm: support GUP-triggered unsharing of anonymous pages" (5.19). Older ones pin the page that
    is shared, and the next write copies it.
    """
    if not pinned or not features.has_type("FAULT_FLAG_UNSHARE"):
        return (parent(), child(copied(pages)))
    return (parent(), child(copied(pages, origin=Origin.UNSHARE), reused(pages)))


@_unshare(
    lambda pages: _unshared(pages, pinned=True),
    claim="process_vm_readv pins the pages that it reads: since 5.19 this copies shared ones",
)
def unshare_vm_readv(me: Writer) -> None:
    """the child's pages are read by process_vm_readv, then the child writes them"""
    me.child_writes(_read_own_pages_then_write)


def _read_own_pages_then_write(me: Writer) -> None:
    me.act(lambda region: calls.vm_read(os.getpid(), region.addresses), every_page=False)
    me.expect(BEFORE)
    me.write(CHILD)


def _unshared_by_parent(pages: int) -> tuple[Expected, ...]:
    if not features.has_type("FAULT_FLAG_UNSHARE"):
        return (parent(), child())
    return (parent(), child(copied(pages, origin=Origin.UNSHARE, actor="parent")))


@_unshare(
    _unshared_by_parent,
    claim="process_vm_readv of another process's shared pages copies them in that process (5.19)",
)
def unshare_remote_readv(me: Writer) -> None:
    """the parent reads the child's pages by process_vm_readv: copied in the child"""
    me.populate(BEFORE)
    with me.fork() as other:
        mine, theirs = me.frames(), other.do(Writer.frames)
        read = calls.vm_read(other.pid, me.region.addresses)
        me.expect_that(set(read) == {BEFORE})
        changed = sum(map(int.__ne__, theirs, other.do(Writer.frames)))
        wanted = me.region.pages if features.has_type("FAULT_FLAG_UNSHARE") else 0
        me.note("pagemap", "child: frames that changed when it was read", wanted, changed)
        me.note_frames("parent: frames kept", mine, me.frames())
        other.do(Writer.frames_cannot_show, "copied")  # it wrote nothing itself
        other.do(Writer.expect, BEFORE)


@_unshare(
    # bio_iov_iter_get_pages() pins, rather than takes a reference, where there is this function.
    lambda pages: _unshared(pages, pinned=features.has_function("iov_iter_extract_pages")),
    claim="a write(2) with O_DIRECT copies the shared pages that it reads, where it pins them",
)
def unshare_direct_io(me: Writer) -> None:
    """the child writes its pages to a file with O_DIRECT, which only reads them"""
    me.region.fill(BEFORE)
    me.child_writes(_write_directly_then_write)


def _write_directly_then_write(me: Writer) -> None:
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        path = f"/proc/self/fd/{file.fileno()}"
        try:
            direct = os.open(path, os.O_WRONLY | os.O_DIRECT)
        except OSError as error:
            raise Unsupported(f"/var/tmp takes no O_DIRECT: {error.strerror}") from error
        with me.watch(every_page=False):  # rehearsals would take a disk long
            os.pwrite(direct, me.region.view, 0)
        os.close(direct)
        file.seek(0)
        me.expect_that(file.read() == bytes([BEFORE]) * me.region.size_bytes)
    me.write(CHILD)


@workload(
    lambda pages: (parent(), child(copied(pages, origin=Origin.KERNEL))),
    group="pinned page",
    claim="registering shared memory as io_uring buffers copies it at once, in kernel mode",
    unseen_by=KERNEL_FAULT,
)
def io_uring_buffers(me: Writer) -> None:
    """the child's pages become io_uring buffers: pinned for writing, so copied"""
    me.child_writes(_pin_and_write)


def _pin_and_write(me: Writer) -> None:
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
            raise Unsupported("io_uring is not in this kernel, or not allowed") from error
        raise


@workload(
    lambda pages: (parent(copied(pages, origin=Origin.FORK)), child()),
    group="pinned page",
    claim="fork copies pages that are pinned, at once and without a fault",
    unseen_by={"tracepoint": "fork raises no exception", **NO_KPROBES},
    fork_copies=True,
)
def pinned_fork(me: Writer) -> None:
    """the parent's pages are pinned by io_uring when it forks: fork copies them"""
    fork_pinned(me, copies=True)


def fork_pinned(me: Writer, *, copies: bool) -> None:
    """Fork while the region is pinned, then write on both sides. copies: fork itself copies it."""
    me.populate(BEFORE)
    ring = _pin(me.region)
    mine = me.frames()
    with me.fork() as other:
        theirs = other.do(Writer.frames)
        if copies:
            me.note_frames("child: frames that are not the parent's", mine, theirs, differ=True)
            me.frames_cannot_show("copied")  # no frame of the parent's changes
        else:
            me.note_frames("child: frames that are the parent's, too", mine, theirs)
        me.write(PARENT, protected=not copies)
        me.note_frames("parent: frames of its write", mine, me.frames(), differ=not copies)
        other.do(Writer.expect, BEFORE)
        other.do(Writer.write, CHILD, protected=not copies)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)
    os.close(ring)
