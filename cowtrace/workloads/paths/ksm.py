"""Workloads on pages that the kernel merged since they are alike (KSM)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from cowtrace.model import Source
from cowtrace.workloads import calls, settings
from cowtrace.workloads.expectations import copied, parent
from cowtrace.workloads.forks import BEFORE, PARENT
from cowtrace.workloads.oracles import vmstat
from cowtrace.workloads.unsupported import CannotHere
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writing_process import Actor

_SYSFS = "/sys/kernel/mm/ksm"
_PATIENCE = 30  # seconds for ksmd


@contextmanager
def _scanning(pages: int) -> Iterator[None]:
    values = {
        f"{_SYSFS}/pages_to_scan": "20000",
        f"{_SYSFS}/sleep_millisecs": "5",
        f"{_SYSFS}/run": "1",
    }
    with settings.changed(values):
        yield


@workload(
    lambda pages: (parent(copied(pages, Source.KSM)),),
    least=2,  # one page alone is never merged
    needs=_scanning,
    group="KSM",
    claim="a write to a page that KSM merged copies it, also without any fork",
)
def ksm_write(me: Actor) -> None:
    """pages that are alike are merged by KSM, then written: each is copied"""
    me.region.fill(BEFORE)
    me.populate(BEFORE)
    calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_MERGEABLE)
    _wait_until_merged(me)
    settings.write(f"{_SYSFS}/run", "0")  # or it would merge again what was copied
    with vmstat.at_least(me.evidence, "cow_ksm", me.region.pages):
        me.write(PARENT)
    me.expect(PARENT)


def _wait_until_merged(me: Actor) -> None:
    """Frame numbers tell: KPF_KSM of /proc/kpageflags is set for all anonymous pages in 6.12."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        frames = Counter(me.frames())
        if frames.get(0):
            raise CannotHere("frame numbers are hidden: whether pages are merged is not told")
        merged = sum(pages for pages in frames.values() if pages > 1)
        if merged == me.region.pages:
            me.note("pagemap", "pages that share a frame", me.region.pages, merged)
            return
        time.sleep(0.02)
    raise CannotHere(f"KSM merged {merged} of {me.region.pages} pages in {_PATIENCE} s")
