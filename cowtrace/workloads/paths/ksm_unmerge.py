"""Take back what KSM merged: the kernel copies each page, without a write."""

from __future__ import annotations

import time
from pathlib import Path

from cowtrace.model import Origin, Source
from cowtrace.workloads import calls, features, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import Expected, ExpectedRow, child, copied, parent, reused
from cowtrace.workloads.paths.ksm import SYSFS, ksm, merge
from cowtrace.workloads.workload import KERNEL_FAULT
from cowtrace.workloads.writer import BEFORE, PARENT, Writer

_NUMA_BALANCING = Path("/proc/sys/kernel/numa_balancing")
_PATIENCE_FOR_ENDED = 30  # seconds for ksmd to forget processes that have ended


def unshares() -> bool:
    """Whether unmerging reads pages for unsharing, not for a write by another process.

    Until "mm/ksm: convert break_ksm() to use walk_page_range_vma()" (6.2) it is a remote write
    fault, also in a process's own memory. folio_walk_start() walks since 6.12.
    """
    return any(map(features.has_function, ("break_ksm_pmd_entry", "folio_walk_start")))


def _unmerged(pages: int, by: str = "parent", *, of: str = "parent") -> ExpectedRow:
    """What is copied in a process when another, or it, unmerges its pages."""
    if unshares():
        return copied(pages, Source.KSM, Origin.UNSHARE, actor="" if by == of else by)
    return copied(pages, Source.KSM, Origin.REMOTE, actor=by)


def _unmerged_prot_none(pages: int) -> tuple[Expected, ...]:
    # 6.1 finds no page where nobody may access it, and leaves it merged: "mm/gup: replace FOLL_NUMA
    # by gup_can_follow_protnone()". It is the first with mm_mt. Without NUMA balancing, which
    # real-time kernels lack, pte_protnone() is never true.
    if not unshares() and features.has_type("mm_mt") and _NUMA_BALANCING.exists():
        return (parent(),)
    return (parent(_unmerged(pages)),)


@ksm(
    _unmerged_prot_none,
    claim="MADV_UNMERGEABLE copies merged pages of PROT_NONE memory as well; 6.1 may not",
    unseen_by=KERNEL_FAULT,
)
def ksm_unmerge_prot_none(me: Writer) -> None:
    """merged pages become PROT_NONE, then MADV_UNMERGEABLE: the kernel copies each"""
    merge(me)
    start, size = me.region.start, me.region.size_bytes
    with me.watch(protected=False):  # what is left merged did not fault
        calls.mprotect(start, size, calls.PROT_NONE)
        calls.madvise(start, size, calls.MADV_UNMERGEABLE)
    calls.mprotect(start, size, calls.PROT_READ | calls.PROT_WRITE)
    me.expect(BEFORE)


def unmerged_then_written(pages: int) -> tuple[Expected, ...]:
    """A copy that is no write's is mapped read-only, so that the next write re-marks it."""
    return (parent(_unmerged(pages), *([reused(pages)] if unshares() else [])),)


@ksm(
    unmerged_then_written,
    claim="MADV_UNMERGEABLE gives each merged page a copy of its own, without a write",
    varies=True,
    unseen_by=KERNEL_FAULT,
)
def ksm_unmerge(me: Writer) -> None:
    """MADV_UNMERGEABLE on merged pages: the kernel copies each; then they are written"""
    merge(me)
    with me.watch(every_page=False):
        calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_UNMERGEABLE)
    write_unmerged(me)


def write_unmerged(me: Writer) -> None:
    me.expect(BEFORE)
    me.write(PARENT, protected=unshares())
    me.expect(PARENT)


@ksm(
    lambda pages: (
        parent(_unmerged(pages, by="child")),
        child(_unmerged(pages, by="child", of="child")),
    ),
    frames=3,
    claim="writing 2 to KSM's file `run` copies the merged pages of every process",
    unseen_by=KERNEL_FAULT,
)
def ksm_unmerge_all(me: Writer) -> None:
    """the child of a process with merged pages writes 2 to KSM's `run`: all are copied"""
    end = time.monotonic() + _PATIENCE_FOR_ENDED
    while settings.read(f"{SYSFS}/pages_sharing") != "0":  # of processes that have ended, too
        if time.monotonic() >= end:
            raise Unsupported("KSM has merged pages of other processes, which this would unmerge")
        time.sleep(0.02)
    merge(me)
    mine = me.frames()
    with me.fork() as other:
        theirs = other.do(Writer.frames)
        other.do(_unmerge_all)
        # Both are copied: the kernel keeps no merged page for its last holder.
        me.note_frames("parent: frames that changed", mine, me.frames(), differ=True)
        new = other.do(Writer.frames)
        me.note_frames("child: frames that changed", theirs, new, differ=True)
        me.note_frames("frames that differ between them", me.frames(), new, differ=True)
        me.frames_cannot_show("copied")  # it did nothing itself
        other.do(Writer.expect, BEFORE)
        me.expect(BEFORE)


def _unmerge_all(me: Writer) -> None:
    with me.watch(every_page=False):
        settings.write(f"{SYSFS}/run", "2")
