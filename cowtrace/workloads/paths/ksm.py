"""Write pages that the kernel merged because their contents are equal (KSM)."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path

from cowtrace.model import Origin, Source
from cowtrace.workloads import calls, features, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.proc_files import are_zero_pages, vmstat_grows
from cowtrace.workloads.outcome import Expected, ExpectedRow, child, copied, parent, reused
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_SYSFS = "/sys/kernel/mm/ksm"
_NUMA_BALANCING = Path("/proc/sys/kernel/numa_balancing")
_PATIENCE = 30  # seconds for ksmd
_PATIENCE_FOR_ENDED = 10  # to forget processes that have ended
_SCANNING = {
    f"{_SYSFS}/pages_to_scan": "20000",
    f"{_SYSFS}/sleep_millisecs": "5",
    f"{_SYSFS}/run": "1",
}


_UNSEEN = {"tracepoint": "no exception is raised when the kernel makes the fault"}
_ksm = partial(
    workload,
    least=2,  # one page alone is never merged
    needs=lambda pages: settings.changed(_SCANNING),
    group="KSM",
)


def _merge(me: Writer, value: int = BEFORE, *, advise: bool = True) -> None:
    """Have KSM merge the region, whose bytes all have that value, then stop it."""
    me.region.fill(value)
    me.populate(value)
    if advise:
        calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_MERGEABLE)
    _wait_until_merged(me)
    settings.write(f"{_SYSFS}/run", "0")  # or it would merge the copies again


@_ksm(
    lambda pages: (parent(copied(pages, Source.KSM)),),
    claim="a write to a page that KSM merged copies it, even without a fork",
)
def ksm_write(me: Writer) -> None:
    """pages of equal contents are merged by KSM, then written: each is copied"""
    _merge(me)
    with vmstat_grows(me.evidence, "cow_ksm", me.region.pages):
        me.write(PARENT)
    me.expect(PARENT)


def _unshares() -> bool:
    """Whether unmerging reads pages for unsharing, not for a write by another process.

    Until "mm/ksm: convert break_ksm() to use walk_page_range_vma()" (6.2) it is a remote write
    fault, also in a process's own memory. folio_walk_start() walks since 6.12.
    """
    return any(map(features.has_function, ("break_ksm_pmd_entry", "folio_walk_start")))


def _unmerged(pages: int, by: str = "parent", *, of: str = "parent") -> ExpectedRow:
    """What is copied in a process when another, or it, unmerges its pages."""
    if _unshares():
        return copied(pages, Source.KSM, Origin.UNSHARE, actor="" if by == of else by)
    return copied(pages, Source.KSM, Origin.REMOTE, actor=by)


def _unmerged_prot_none(pages: int) -> tuple[Expected, ...]:
    # 6.1 finds no page where nobody may access it, and leaves it merged: "mm/gup: replace FOLL_NUMA
    # by gup_can_follow_protnone()". It is the first with mm_mt. Without NUMA balancing, which
    # real-time kernels lack, pte_protnone() is never true.
    if not _unshares() and features.has_type("mm_mt") and _NUMA_BALANCING.exists():
        return (parent(),)
    return (parent(_unmerged(pages)),)


@_ksm(
    _unmerged_prot_none,
    claim="the kernel copies merged pages that are unmerged, also where nobody may access them",
    unseen_by=_UNSEEN,
)
def ksm_unmerge_prot_none(me: Writer) -> None:
    """merged pages become PROT_NONE, then MADV_UNMERGEABLE: the kernel copies each"""
    _merge(me)
    start, size = me.region.start, me.region.size_bytes
    with me.watch(protected=False):  # what is left merged did not fault
        calls.mprotect(start, size, calls.PROT_NONE)
        calls.madvise(start, size, calls.MADV_UNMERGEABLE)
    calls.mprotect(start, size, calls.PROT_READ | calls.PROT_WRITE)
    me.expect(BEFORE)


def _unmerged_then_written(pages: int) -> tuple[Expected, ...]:
    """A copy that is no write's is mapped read-only, so that the next write re-marks it."""
    return (parent(_unmerged(pages), *([reused(pages)] if _unshares() else [])),)


@_ksm(
    _unmerged_then_written,
    claim="MADV_UNMERGEABLE gives each merged page a copy of its own, without a write",
    varies=True,
    unseen_by=_UNSEEN,
)
def ksm_unmerge(me: Writer) -> None:
    """MADV_UNMERGEABLE on merged pages: the kernel copies each; then they are written"""
    _merge(me)
    with me.watch(every_page=False):
        calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_UNMERGEABLE)
    _write_unmerged(me)


def _write_unmerged(me: Writer) -> None:
    me.expect(BEFORE)
    me.write(PARENT, protected=_unshares())
    me.expect(PARENT)


@_ksm(
    lambda pages: (
        parent(_unmerged(pages, by="child")),
        child(_unmerged(pages, by="child", of="child")),
    ),
    frames=3,
    claim="unmerging all of the system's pages copies those of each process",
    unseen_by=_UNSEEN,
)
def ksm_unmerge_all(me: Writer) -> None:
    """the child of a process with merged pages writes 2 to KSM's `run`: all are copied"""
    end = time.monotonic() + _PATIENCE_FOR_ENDED
    while settings.read(f"{_SYSFS}/pages_sharing") != "0":  # of processes that have ended, too
        if time.monotonic() >= end:
            raise Unsupported("KSM has merged pages of other processes, which this would unmerge")
        time.sleep(0.02)
    _merge(me)
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
        settings.write(f"{_SYSFS}/run", "2")


@_ksm(
    lambda pages: (parent(zero_filled=pages),),
    needs=lambda pages: settings.changed({f"{_SYSFS}/use_zero_pages": "1"} | _SCANNING),
    claim="a page of zeroes that KSM merged with the zero page is filled anew: no copy",
)
def ksm_zero_page(me: Writer) -> None:
    """KSM merges pages of zeroes with the zero page; the writes fill fresh pages"""
    _merge(me, 0)
    me.note("pagemap", "pages that are the zero page", me.region.pages, _zero_pages(me))
    me.write(PARENT)
    me.expect(PARENT)


def _zero_pages(me: Writer) -> int:
    return sum(are_zero_pages(me.frames()))


_process = partial(_ksm, group="KSM for a process")


@_process(
    lambda pages: (parent(copied(pages, Source.KSM)), child(copied(pages, Source.KSM))),
    frames=3,
    claim="PR_SET_MEMORY_MERGE: KSM merges all memory of a process and of its children",
)
def ksm_process(me: Writer) -> None:
    """prctl lets KSM merge a whole process; its child, then it write: both copy"""
    _set_memory_merge(1)
    _merge(me, advise=False)
    with me.fork() as other:
        me.note("prctl", "child: PR_GET_MEMORY_MERGE", 1, other.do(_memory_merge))
        other.do(Writer.write, CHILD)
        me.expect(BEFORE)
        me.write(PARENT)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)


@_process(
    _unmerged_then_written,
    claim="PR_SET_MEMORY_MERGE switched off copies all merged pages of the process at once",
    unseen_by=_UNSEEN,
)
def ksm_process_unmerge(me: Writer) -> None:
    """prctl lets KSM merge a whole process, then forbids it: merged pages are copied"""
    _set_memory_merge(1)
    _merge(me, advise=False)
    with me.watch(every_page=False):
        # "mm/ksm: unmerge and clear VM_MERGEABLE when setting PR_SET_MEMORY_MERGE=0" (6.5)
        _set_memory_merge(0)
    _write_unmerged(me)


def _set_memory_merge(on: int) -> None:
    """Raises Unsupported before "mm: add new api to enable ksm per process" (6.4)."""
    try:
        calls.prctl(calls.PR_SET_MEMORY_MERGE, on)
    except OSError as error:
        raise Unsupported("this kernel has no PR_SET_MEMORY_MERGE") from error


def _memory_merge(me: Writer) -> int:
    return calls.prctl(calls.PR_GET_MEMORY_MERGE)


def _wait_until_merged(me: Writer) -> None:
    """By frame numbers: 6.12 sets KPF_KSM of /proc/kpageflags for all anonymous pages."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        frames = Counter(me.frames())
        if not frames or 0 in frames:
            raise Unsupported("frame numbers are hidden: they would show which pages are merged")
        merged = sum(pages for pages in frames.values() if pages > 1)
        if merged == me.region.pages:
            me.note("pagemap", "pages that share a frame", me.region.pages, merged)
            return
        time.sleep(0.02)
    raise Unsupported(f"KSM merged {merged} of {me.region.pages} pages in {_PATIENCE} s")
