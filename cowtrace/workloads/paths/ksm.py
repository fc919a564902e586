"""Write pages that the kernel merged because their contents are equal (KSM)."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from cowtrace.model import Origin, Source
from cowtrace.workloads import calls, features, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.proc_files import vmstat_grows
from cowtrace.workloads.outcome import Expected, copied, parent
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, PARENT, Writer

_SYSFS = "/sys/kernel/mm/ksm"
_NUMA_BALANCING = Path("/proc/sys/kernel/numa_balancing")
_PATIENCE = 30  # seconds for ksmd
_SCANNING = {
    f"{_SYSFS}/pages_to_scan": "20000",
    f"{_SYSFS}/sleep_millisecs": "5",
    f"{_SYSFS}/run": "1",
}


@workload(
    lambda pages: (parent(copied(pages, Source.KSM)),),
    least=2,  # one page alone is never merged
    needs=lambda pages: settings.changed(_SCANNING),
    group="KSM",
    claim="a write to a page that KSM merged copies it, even without a fork",
)
def ksm_write(me: Writer) -> None:
    """pages of equal contents are merged by KSM, then written: each is copied"""
    me.region.fill(BEFORE)
    me.populate(BEFORE)
    calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_MERGEABLE)
    _wait_until_merged(me)
    settings.write(f"{_SYSFS}/run", "0")  # or it would merge the copies again
    with vmstat_grows(me.evidence, "cow_ksm", me.region.pages):
        me.write(PARENT)
    me.expect(PARENT)


def _unmerged(pages: int) -> tuple[Expected, ...]:
    """Unmerging is a remote write fault of the process's own until break_ksm() walks page tables.

    "mm/ksm: convert break_ksm() to use walk_page_range_vma()" (6.2), folio_walk_start() since 6.12.
    """
    walks = any(map(features.has_function, ("break_ksm_pmd_entry", "folio_walk_start")))
    if walks:
        return (parent(copied(pages, Source.KSM, Origin.UNSHARE)),)
    # 6.1 finds no page where nobody may access it, and leaves it merged: "mm/gup: replace FOLL_NUMA
    # by gup_can_follow_protnone()". It is the first with mm_mt. Without NUMA balancing, which
    # real-time kernels lack, pte_protnone() is never true.
    if features.has_type("mm_mt") and _NUMA_BALANCING.exists():
        return (parent(),)
    return (parent(copied(pages, Source.KSM, Origin.REMOTE, actor="parent")),)


@workload(
    _unmerged,
    least=2,
    needs=lambda pages: settings.changed(_SCANNING),
    group="KSM",
    claim="the kernel copies merged pages that are unmerged, also where nobody may access them",
    unseen_by={"tracepoint": "no exception is raised when the kernel makes the fault"},
)
def ksm_unmerge_prot_none(me: Writer) -> None:
    """merged pages become PROT_NONE, then MADV_UNMERGEABLE: the kernel copies each"""
    me.region.fill(BEFORE)
    me.populate(BEFORE)
    start, size = me.region.start, me.region.size_bytes
    calls.madvise(start, size, calls.MADV_MERGEABLE)
    _wait_until_merged(me)
    settings.write(f"{_SYSFS}/run", "0")
    with me.watch(protected=False):  # what is left merged did not fault
        calls.mprotect(start, size, calls.PROT_NONE)
        calls.madvise(start, size, calls.MADV_UNMERGEABLE)
    calls.mprotect(start, size, calls.PROT_READ | calls.PROT_WRITE)
    me.expect(BEFORE)


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
