"""Track which pages are written, as CRIU and live migration do, alone and after a fork."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cowtrace.workloads import calls
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.pagemap_scan import written_pages
from cowtrace.workloads.outcome import child, parent, reused
from cowtrace.workloads.paths.write_protected import (
    protected_by_userfaultfd,
    soft_dirty_pages,
    write_when_allowed,
)
from cowtrace.workloads.region import PAGE_BYTES, Region
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_tracking = partial(workload, group="write tracking")


@_tracking(
    lambda pages: (parent(reused(pages)),),
    frames=1,
    claim="userfaultfd's asynchronous write protection: a write re-marks its page, no copy",
)
def userfaultfd_async(me: Writer) -> None:
    """userfaultfd protects pages (async), each is written: re-marked, and noted"""
    me.populate(BEFORE)
    with _tracked(me) as uffd:
        _protect(me, uffd)
        me.write(PARENT)
        _note_written(me, "written", set(range(me.region.pages)))
    me.expect(PARENT)


@_tracking(
    lambda pages: (parent(copied=pages), child(reused(pages))),
    claim="pages under asynchronous write protection that fork made shared are copied as others",
)
def userfaultfd_async_after_fork(me: Writer) -> None:
    """protected (async), then fork; the parent writes (copied, noted), then the child"""
    me.populate(BEFORE)
    with _tracked(me) as uffd:
        _protect(me, uffd)
        with me.fork() as other:
            me.write(PARENT)
            _note_written(me, "written", set(range(me.region.pages)))
            other.do(Writer.write, CHILD)
            other.do(Writer.expect, CHILD)
            me.expect(PARENT)


@_tracking(
    lambda pages: (parent(copied=pages), child()),
    claim="a shared page's write that userfaultfd stopped and that is retried is one copy",
)
def userfaultfd_protect_after_fork(me: Writer) -> None:
    """userfaultfd protects shared pages, a thread allows each write: copied once"""
    me.populate(BEFORE)
    with me.fork() as other, protected_by_userfaultfd(me) as uffd:
        seen = write_when_allowed(me, uffd)
        me.note("userfaultfd", "pages that it reported", me.region.pages, seen)
        other.do(Writer.expect, BEFORE)
        me.expect(PARENT)


def _every_third(region: Region) -> range:
    return range(0, region.pages, 3)


def _scanned(pages: int) -> int:
    return pages + len(range(0, pages, 3))


@_tracking(
    lambda pages: (parent(reused(_scanned(pages))),),
    frames=1,
    claim="PAGEMAP_SCAN with PM_SCAN_WP_MATCHING finds the written pages; no write is a copy",
)
def pagemap_scan(me: Writer) -> None:
    """scans as CRIU does: protects, all are written, scans, a third is written, scans"""
    me.populate(BEFORE)
    every = set(range(me.region.pages))
    with _tracked(me):
        _note_written(me, "first scan", every, protect=True)
        _note_written(me, "none since", set(), protect=True)
        me.write(CHILD)
        _note_written(me, "all written", every, protect=True)
        me.act(_write_every_third, every_page=False)
        _note_written(me, "a third written", set(_every_third(me.region)), protect=True)
        me.frames_cannot_show("reused")  # which pages were written again
    third = _every_third(me.region)
    me.expect_that([*me.region.load()] == [PARENT if n in third else CHILD for n in sorted(every)])


def _write_every_third(region: Region) -> None:
    for page in _every_third(region):
        region.view[page * PAGE_BYTES] = PARENT


@_tracking(
    lambda pages: (parent(copied=pages), child()),
    claim="a write to a page that is shared, and protected by soft-dirty tracking, copies it",
)
def soft_dirty_after_fork(me: Writer) -> None:
    """after a fork the parent's soft-dirty bits are cleared; it writes: copied, dirty"""
    me.populate(BEFORE)
    if not soft_dirty_pages(me):
        raise Unsupported("kernel built without CONFIG_MEM_SOFT_DIRTY")
    with me.fork() as other:
        Path("/proc/self/clear_refs").write_text("4", encoding="ascii")
        me.note("pagemap", "soft-dirty pages after clearing", 0, soft_dirty_pages(me))
        theirs = other.do(soft_dirty_pages)
        me.note("pagemap", "child: soft-dirty pages, not cleared", me.region.pages, theirs)
        me.write(PARENT)
        me.note(
            "pagemap", "soft-dirty pages after the write", me.region.pages, soft_dirty_pages(me)
        )
        other.do(Writer.expect, BEFORE)
        me.expect(PARENT)


@contextmanager
def _tracked(me: Writer) -> Iterator[int]:
    """A userfaultfd in async mode. Raises Unsupported where there is none, or no scan."""
    start, size = me.region.start, me.region.size_bytes
    try:
        uffd = calls.userfaultfd_wp(start, size, calls.UFFD_FEATURE_WP_ASYNC)
    except (OSError, KeyError) as error:
        reason = "not allowed" if isinstance(error, PermissionError) else "no WP_ASYNC (6.7)"
        raise Unsupported(f"userfaultfd: {reason}") from error
    try:
        yield uffd
    finally:
        os.close(uffd)


def _protect(me: Writer, uffd: int) -> None:
    calls.write_protect(uffd, me.region.start, me.region.size_bytes, on=True)
    _note_written(me, "just protected", set())


def _note_written(me: Writer, what: str, wanted: set[int], *, protect: bool = False) -> None:
    """Evidence that these pages are written, by number, and no others."""
    found = written_pages(me.region, protect=protect)
    seen = f"{len(found)} of {me.region.pages}" + ("" if found == wanted else ", others")
    me.note("PAGEMAP_SCAN", f"{what}: pages", f"{len(wanted)} of {me.region.pages}", seen)
