"""Write memory for which a process, or the kernel's build, has changed what THP does."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager
from functools import partial

from cowtrace.frames.words import mapped_times
from cowtrace.model import Source
from cowtrace.workloads import calls, features, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.proc_files import smaps_sizes, vmstat, vmstat_grows
from cowtrace.workloads.outcome import child, copied, parent
from cowtrace.workloads.paths import thp
from cowtrace.workloads.region import HUGE_BYTES, HUGE_PAGES, Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_disabled = partial(
    workload, backing=Backing.HUGE, frames=4, needs=thp.enabled, group="THP disabled"
)


@_disabled(
    lambda pages: (parent(), child(copied(pages))),
    claim="PR_SET_THP_DISABLE: memory with MADV_HUGEPAGE gets small pages, in children as well",
)
def thp_disabled(me: Writer) -> None:
    """THP is disabled by prctl, then memory is touched; the child writes small pages"""
    calls.prctl(calls.PR_SET_THP_DISABLE, 1)
    me.populate(BEFORE)
    me.note("smaps", "parent: bytes in huge pages", 0, thp.in_huge_pages(me))
    with me.fork() as other:
        me.note("prctl", "child: PR_GET_THP_DISABLE", 1, other.do(_disabled_by_prctl))
        other.do(Writer.write, CHILD)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _disabled_by_prctl(me: Writer) -> int:
    return calls.prctl(calls.PR_GET_THP_DISABLE)


@_disabled(
    lambda pages: (parent(), child(copied(pages, Source.THP))),
    claim="PR_SET_THP_DISABLE keeps huge pages that exist; those that are split stay split",
)
def thp_disabled_later(me: Writer) -> None:
    """THP is disabled after memory is huge; the child's writes split it: small copies"""
    thp.populate(me)
    calls.prctl(calls.PR_SET_THP_DISABLE, 1)
    huge = thp.whole(me)
    with me.fork() as other:
        me.note("smaps", "child: bytes in huge pages", huge, other.do(thp.in_huge_pages))
        with vmstat_grows(me.evidence, "thp_split_pmd", huge // HUGE_BYTES):
            other.do(Writer.write, CHILD)
        refused = errno.errorcode[errno.EINVAL]  # before 6.1: no such advice
        me.note("madvise", "child: MADV_COLLAPSE", refused, other.do(_collapse))
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)
        me.note("smaps", "parent: bytes in huge pages", huge, thp.in_huge_pages(me))


def _collapse(me: Writer) -> str:
    """The name of the error, or how many bytes are in huge pages."""
    try:
        return str(thp.collapse_by_advice(me))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


# Primes: pages that are written of memory with advice, and of memory without.
_ADVISED, _UNADVISED = 251, 257


def _enabled_for_all(pages: int) -> AbstractContextManager[None]:
    return settings.changed({f"{thp.SYSFS}/enabled": "always"})


@_disabled(
    lambda pages: (
        parent(),
        child(copied(_ADVISED, Source.THP), copied(_UNADVISED)),
    ),
    least=2 * HUGE_PAGES,
    most=2 * HUGE_PAGES,
    needs=_enabled_for_all,
    claim="PR_THP_DISABLE_EXCEPT_ADVISED: huge pages with MADV_HUGEPAGE, else small ones",
)
def thp_except_advised(me: Writer) -> None:
    """one huge page's worth of memory has advice, one has none; the child writes both"""
    try:  # "prctl: extend PR_SET_THP_DISABLE to optionally exclude VM_HUGEPAGE" (6.18)
        calls.prctl(calls.PR_SET_THP_DISABLE, 1, calls.PR_THP_DISABLE_EXCEPT_ADVISED)
    except OSError as error:
        raise Unsupported("this kernel has no PR_THP_DISABLE_EXCEPT_ADVISED") from error
    start = me.region.start
    calls.map_anew(start + HUGE_BYTES, HUGE_BYTES)
    me.populate(BEFORE)
    huge = smaps_sizes(start, HUGE_BYTES).get("AnonHugePages", 0)
    if not huge:
        raise Unsupported("the kernel allocated no transparent huge page")
    small = smaps_sizes(start + HUGE_BYTES, HUGE_BYTES).get("AnonHugePages")
    me.note("smaps", "with advice: bytes in huge pages", HUGE_BYTES, huge)
    me.note("smaps", "without advice: bytes in huge pages", 0, small)
    with me.fork() as other:
        written = (*range(_ADVISED), *range(HUGE_PAGES, HUGE_PAGES + _UNADVISED))
        other.do(Writer.write_pages, CHILD, written)
        other.do(Writer.expect_pages, CHILD, written)
        me.expect(BEFORE)


_build_option = partial(workload, backing=Backing.HUGE, frames=4, group="THP build options")
_DROP_CACHES = "/proc/sys/vm/drop_caches"
# Compiled in unless CONFIG_PERSISTENT_HUGE_ZERO_FOLIO leaves nothing to free.
_ZERO_SHRINKERS = ("shrink_huge_zero_folio_scan", "shrink_huge_zero_page_scan")


@_build_option(
    lambda pages: (*thp.huge_zero(pages), child()),
    needs=thp.huge_zero_enabled,
    claim="a persistent huge zero page outlives its users; a write to it still gives zeroes",
    unseen_without_table="it does not see huge pages allocated in a fault",
)
def huge_zero_persistent(me: Writer) -> None:
    """two processes in a row read huge memory: one zero page; the parent writes it"""
    # "mm: add persistent huge zero folio" (6.18)
    if any(map(features.has_function, _ZERO_SHRINKERS)):
        raise Unsupported("kernel built without CONFIG_PERSISTENT_HUGE_ZERO_FOLIO")
    made = vmstat("thp_zero_page_alloc")
    frames = []
    for _ in range(2):
        with me.fork() as reader:
            reader.do(Writer.read)
            frames.append(reader.do(Writer.frames))
        # Shrinkers run: other kernels free a huge zero page that nobody maps any more.
        settings.write(_DROP_CACHES, "2")
    me.note_frames("frames of the second reader", *frames)
    me.note("vmstat", "thp_zero_page_alloc afterwards", made, vmstat("thp_zero_page_alloc"))
    thp.write_huge_zero(me)


@_build_option(
    lambda pages: (
        parent(copied(pages, Source.THP)),
        child(copied(pages, Source.THP)),
    ),
    most=HUGE_PAGES - 1,
    needs=thp.enabled,
    claim="CONFIG_NO_PAGE_MAPCOUNT: both sides still copy pages of a partly shared huge page",
)
def no_page_mapcount(me: Writer) -> None:
    """the child writes a part of a huge page, then the parent the same: both copy"""
    off = "kernel built without CONFIG_NO_PAGE_MAPCOUNT"
    if not thp.pages_become_exclusive():
        raise Unsupported(f"{off}, which came with Linux 6.15")
    known = features.config("NO_PAGE_MAPCOUNT")
    if known == "n":
        raise Unsupported(off)
    thp.populate(me)
    mine = me.frames()
    with me.fork() as other:
        other.do(Writer.write, CHILD)
        # "fs/proc/page: remove per-page mapcount dependency for /proc/kpagecount": a mean.
        counts = {mapped_times(frame) for frame in (*mine, mine[0] + HUGE_PAGES - 1)}
        if known is None and len(counts) > 1:
            raise Unsupported(f"{off}: each page has a count of its own in /proc/kpagecount")
        me.note("kpagecount", "different counts of the pages of the huge page", 1, len(counts))
        me.write(PARENT)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)
