"""Track which pages are written, as CRIU and live migration do, alone and after a fork."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cowtrace.workloads import calls, features, pagemap
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.pagemap_scan import written_pages
from cowtrace.workloads.outcome import Expected, child, parent, reused
from cowtrace.workloads.region import PAGE_BYTES
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_PATIENCE = 10  # seconds
_EVENT_BYTES = 32  # struct uffd_msg; the address is at 16
_SOFT_DIRTY = 1 << 55  # of a pagemap entry

_ASYNC = calls.UFFD_FEATURE_WP_ASYNC, "no WP_ASYNC (6.7)"

_tracking = partial(workload, group="write tracking")


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
    _write_when_allowed(me, protected=False)
    me.expect(PARENT)


@_tracking(
    lambda pages: (parent(copied=pages), child()),
    claim="a write to a shared page that userfaultfd stops, and a thread then allows, is one copy",
)
def userfaultfd_protect_after_fork(me: Writer) -> None:
    """userfaultfd protects shared pages, a thread allows each write: copied once"""
    me.populate(BEFORE)
    with me.fork() as other:
        _write_when_allowed(me)
        other.do(Writer.expect, BEFORE)
        me.expect(PARENT)


def _write_when_allowed(me: Writer, *, protected: bool = True) -> None:
    """Write PARENT to each page, which userfaultfd protects and a thread allows when reported."""
    region, seen = me.region, set[int]()

    def let_pass() -> None:
        while len(seen) < region.pages:
            (address,) = struct.unpack_from("=Q", os.read(uffd, _EVENT_BYTES), 16)
            page = address & -PAGE_BYTES
            seen.add(page)
            calls.write_protect(uffd, page, PAGE_BYTES, on=False)

    with _opened(me, calls.UFFD_FEATURE_WP, "no write protection") as uffd:
        calls.write_protect(uffd, region.start, region.size_bytes, on=True)
        watcher = threading.Thread(target=let_pass, daemon=True)
        watcher.start()
        with me.watch(protected=protected):
            for address in region.addresses:
                ctypes.memset(address, PARENT, 1)  # lets the other thread run
            watcher.join(_PATIENCE)  # it has ended, unless writes passed unreported
    me.note("userfaultfd", "pages that it reported", region.pages, len(seen))


@contextmanager
def _opened(me: Writer, feature: int, lacking: str) -> Iterator[int]:
    """A userfaultfd for writes to protected pages of the region.

    Raises Unsupported where it is not allowed, or `lacking` that feature.
    """
    try:
        uffd = calls.userfaultfd_wp(me.region.start, me.region.size_bytes, feature)
    except (OSError, KeyError) as error:
        reason = "not allowed" if isinstance(error, PermissionError) else lacking
        raise Unsupported(f"userfaultfd: {reason}") from error
    try:
        yield uffd
    finally:
        os.close(uffd)


@_tracking(
    lambda pages: (parent(reused(pages)),),
    frames=1,
    claim="a write under userfaultfd's asynchronous write protection re-marks its page: no copy",
)
def userfaultfd_async(me: Writer) -> None:
    """userfaultfd protects pages (async), each is written: re-marked, and noted"""
    me.populate(BEFORE)
    with _opened(me, *_ASYNC) as uffd:
        _protect(me, uffd)
        me.write(PARENT)
        _note_written(me, "written", set(range(me.region.pages)))
    me.expect(PARENT)


@_tracking(
    lambda pages: (parent(copied=pages), child(reused(pages))),
    claim="shared pages under asynchronous write protection are copied as any others",
)
def userfaultfd_async_after_fork(me: Writer) -> None:
    """protected (async), then fork; the parent writes (copied, noted), then the child"""
    me.populate(BEFORE)
    with _opened(me, *_ASYNC) as uffd:
        _protect(me, uffd)
        with me.fork() as other:
            me.write(PARENT)
            _note_written(me, "written", set(range(me.region.pages)))
            other.do(Writer.write, CHILD)
            other.do(Writer.expect, CHILD)
            me.expect(PARENT)


def _every_third(pages: int) -> range:
    return range(0, pages, 3)


@_tracking(
    lambda pages: (parent(reused(pages + len(_every_third(pages)))),),
    frames=1,
    claim="PAGEMAP_SCAN with PM_SCAN_WP_MATCHING finds the written pages; no write is a copy",
)
def pagemap_scan(me: Writer) -> None:
    """scans as CRIU does: protects, all are written, scans, a third is written, scans"""
    me.populate(BEFORE)
    every, third = set(range(me.region.pages)), _every_third(me.region.pages)
    with _opened(me, *_ASYNC):
        _note_written(me, "first scan", every, protect=True)
        _note_written(me, "none since", set(), protect=True)
        me.write(CHILD)
        _note_written(me, "all written", every, protect=True)
        me.write_pages(PARENT, third)
        _note_written(me, "a third written", set(third), protect=True)
        me.frames_cannot_show("reused")  # which pages were written again
    me.expect_pages(PARENT, third, others=CHILD)


def _protect(me: Writer, uffd: int) -> None:
    calls.write_protect(uffd, me.region.start, me.region.size_bytes, on=True)
    _note_written(me, "just protected", set())


def _note_written(me: Writer, what: str, wanted: set[int], *, protect: bool = False) -> None:
    """Evidence that these pages are written, by number, and no others."""
    found = written_pages(me.region, protect=protect)
    seen = f"{len(found)} of {me.region.pages}" + ("" if found == wanted else ", others")
    me.note("PAGEMAP_SCAN", f"{what}: pages", f"{len(wanted)} of {me.region.pages}", seen)


@workload(
    lambda pages: (parent(reused=pages),),
    frames=1,
    group="not a copy",
    claim="a write to a page that soft-dirty tracking protects re-marks it, and copies nothing",
)
def soft_dirty(me: Writer) -> None:
    """soft-dirty bits are cleared (/proc/self/clear_refs), then every page is written"""
    me.populate(BEFORE)
    _write_soft_dirty(me)
    me.expect(PARENT)


@_tracking(
    lambda pages: (parent(copied=pages), child()),
    claim="a write to a shared page that soft-dirty tracking protects copies it",
)
def soft_dirty_after_fork(me: Writer) -> None:
    """after a fork the parent's soft-dirty bits are cleared; it writes: copied, dirty"""
    me.populate(BEFORE)
    with me.fork() as other:
        _write_soft_dirty(me)
        theirs = other.do(_soft_dirty_pages)
        me.note("pagemap", "child: soft-dirty pages, not cleared", me.region.pages, theirs)
        other.do(Writer.expect, BEFORE)
        me.expect(PARENT)


def _write_soft_dirty(me: Writer) -> None:
    """Clear this process's soft-dirty bits, then write every page: each has its bit again."""
    if not _soft_dirty_pages(me):
        raise Unsupported("kernel built without CONFIG_MEM_SOFT_DIRTY")
    Path("/proc/self/clear_refs").write_text("4", encoding="ascii")
    me.note("pagemap", "soft-dirty pages after clearing", 0, _soft_dirty_pages(me))
    me.write(PARENT)
    me.note("pagemap", "soft-dirty pages after the write", me.region.pages, _soft_dirty_pages(me))


def _soft_dirty_pages(me: Writer) -> int:
    return pagemap.pages_with(me.region, _SOFT_DIRTY)
