"""Let the kernel pin hugetlb pages across fork."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from contextlib import closing
from functools import partial

from cowtrace.frames.words import address_of
from cowtrace.model import Origin, Source
from cowtrace.workloads import calls, pagemap
from cowtrace.workloads.outcome import Expected, child, copied, parent, reused
from cowtrace.workloads.paths import hugetlb
from cowtrace.workloads.paths.pins import NO_KPROBES, fork_pinned
from cowtrace.workloads.region import HUGE_BYTES, Backing
from cowtrace.workloads.stepped_child import Child
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, Writer

_MAP_HUGETLB = 0x40000  # include/uapi/asm-generic/mman-common.h; not in Python's mmap module


@functools.cache
def _fork_copies() -> bool:
    """Whether fork copies pinned hugetlb pages. Found by trying it on one outside the region.

    It does since "hugetlb: do early cow when page pinned on src mm" (5.12).
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_HUGETLB
    with mmap.mmap(-1, HUGE_BYTES, flags=flags) as page:
        at = address_of(page)
        ctypes.memset(at, BEFORE, 1)
        ring = calls.pin_for_io_uring(at, HUGE_BYTES)
        with closing(Child(lambda: at)) as other:
            copied = other.do(_frame_at) != _frame_at(at)
        os.close(ring)
    return copied


def _frame_at(address: int) -> int:
    return pagemap.frame(pagemap.read_entries(address, 1)[0])


def _pinned_hugetlb(pages: int) -> tuple[Expected, ...]:
    """Older kernels share what is pinned: the parent's write copies it, and loses the pin."""
    if _fork_copies():
        row = copied(pages, Source.HUGETLB, Origin.FORK, page_bytes=HUGE_BYTES)
        return (parent(row), child())
    return (parent(hugetlb.copied_whole(pages)), child(reused(pages, Source.HUGETLB)))


@workload(
    _pinned_hugetlb,
    backing=Backing.HUGETLB,
    most=hugetlb.MOST_PAGES,
    needs=partial(hugetlb.pool, 2, more=2),
    group="hugetlb",
    claim="fork copies whole hugetlb pages that are pinned, or shares them, by kernel version",
    varies=True,
    unseen_by={**hugetlb.UNSEEN, **NO_KPROBES},
    fork_copies=True,
)
def hugetlb_pinned_fork(me: Writer) -> None:
    """the parent's hugetlb pages are pinned by io_uring as it forks: fork copies them"""
    fork_pinned(me, copies=_fork_copies())
