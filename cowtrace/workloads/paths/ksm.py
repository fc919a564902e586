"""Write pages that the kernel merged because their contents are equal (KSM)."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial

from cowtrace.model import Source
from cowtrace.workloads import calls, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.proc_files import are_zero_pages, vmstat_grows
from cowtrace.workloads.outcome import copied, parent
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, PARENT, Writer

SYSFS = "/sys/kernel/mm/ksm"
_PATIENCE = 60  # seconds for ksmd
_SCANNING = {
    f"{SYSFS}/pages_to_scan": "20000",
    f"{SYSFS}/sleep_millisecs": "5",
    f"{SYSFS}/run": "1",
}
ksm = partial(
    workload,
    least=2,  # one page alone is never merged
    needs=lambda pages: settings.changed(_SCANNING),
    group="KSM",
)


def merge(me: Writer, value: int = BEFORE, *, advise: bool = True) -> None:
    """Have KSM merge the region, whose bytes all have that value, then stop it."""
    me.region.fill(value)
    me.populate(value)
    if advise:
        calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_MERGEABLE)
    _wait_until_merged(me)
    settings.write(f"{SYSFS}/run", "0")  # or it would merge the copies again


@ksm(
    lambda pages: (parent(copied(pages, Source.KSM)),),
    claim="a write to a page that KSM merged copies it, even without a fork",
)
def ksm_write(me: Writer) -> None:
    """pages of equal contents are merged by KSM, then written: each is copied"""
    merge(me)
    with vmstat_grows(me.evidence, "cow_ksm", me.region.pages):
        me.write(PARENT)
    me.expect(PARENT)


@ksm(
    lambda pages: (parent(zero_filled=pages),),
    needs=lambda pages: settings.changed({f"{SYSFS}/use_zero_pages": "1"} | _SCANNING),
    claim="a write to a page that KSM replaced by the zero page fills a fresh page: no copy",
)
def ksm_zero_page(me: Writer) -> None:
    """KSM merges pages of zeroes with the zero page; the writes fill fresh pages"""
    merge(me, 0)
    me.note("pagemap", "pages that are the zero page", me.region.pages, _zero_pages(me))
    me.write(PARENT)
    me.expect(PARENT)


def _zero_pages(me: Writer) -> int:
    return sum(are_zero_pages(me.frames()))


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
