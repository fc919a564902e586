"""Make memory private, or not, without a copy on write: both sides' private memory is compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cowtrace.model import Source
from cowtrace.workloads import calls
from cowtrace.workloads.oracles.proc_files import smaps_sizes
from cowtrace.workloads.outcome import Expected, child, copied, parent, reused
from cowtrace.workloads.paths import thp
from cowtrace.workloads.paths.stack_swap_shared import (
    last_is_re_marked,
    swap,
    swap_out,
    write_swapped,
)
from cowtrace.workloads.paths.write_protected import protect_and_back
from cowtrace.workloads.region import HUGE_BYTES, PAGE_BYTES, Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_private = partial(workload, group="private memory")
# khugepaged leaves alone what is shared as a whole.
_MOST_PAGES = HUGE_BYTES // PAGE_BYTES - 1
_collapsed = partial(_private, backing=Backing.HUGE, frames=6, most=_MOST_PAGES, needs=thp.enabled)
_NOTHING = lambda pages: (parent(), child())  # noqa: E731


@_private(
    _NOTHING,
    frames=1,
    claim="shared pages become the parent's own when the child exits, without a fault",
)
def exit_makes_exclusive(me: Writer) -> None:
    """the child exits without a write: its parent's memory is private again"""
    me.populate(BEFORE)
    before = me.frames()
    with me.fork() as other:
        _note_private(me, 0)
        me.note("smaps", "child: private bytes", 0, other.do(_private_bytes))
    _note_private(me, me.region.size_bytes)
    me.note_frames("frames after the exit", before, me.frames())
    me.expect(BEFORE)


@_collapsed(
    lambda pages: (parent(), child(copied=1)),
    claim="MADV_COLLAPSE copies shared pages without a fault: both sides' memory is private",
)
def collapse_after_fork(me: Writer) -> None:
    """the child collapses shared pages into a huge one (before 6.1: khugepaged does)"""
    _collapse_after_fork(me, _collapse)


@_collapsed(
    lambda pages: (parent(), child(copied=1)),
    claim="khugepaged copies shared pages without a fault: both sides' memory is private",
)
def khugepaged_after_fork(me: Writer) -> None:
    """khugepaged collapses pages that the child shares into a huge one"""
    _collapse_after_fork(me, _wait_for_khugepaged)


def _collapse_after_fork(me: Writer, collapse: Callable[[Writer], int]) -> None:
    calls.madvise(me.region.start, HUGE_BYTES, calls.MADV_NOHUGEPAGE)
    me.populate(BEFORE)
    with me.fork() as other:
        _note_private(me, 0)
        # 5.10 to 6.12 collapse nothing where no page is writable: SCAN_PAGE_RO.
        other.do(_write_first_page)
        me.note("smaps", "child: bytes in huge pages", HUGE_BYTES, other.do(collapse))
        me.note("smaps", "child: private bytes", HUGE_BYTES, other.do(_private_bytes))
        _note_private(me, me.region.size_bytes)
        other.do(_expect_own_first_page)
        me.expect(BEFORE)


@_collapsed(
    lambda pages: (parent(reused(1, Source.THP)), child(copied(1, Source.THP))),
    claim="a split huge page is collapsed by a copy, though all its small pages are shared",
    unseen_without_table="it counts repeated faults of an entry that is still in the TLB",
)
def collapse_split_huge_page(me: Writer) -> None:
    """the child splits a shared huge page, collapses it (a copy); the parent writes"""
    thp.populate(me)
    with me.fork() as other:
        other.do(_write_first_page)
        me.note("smaps", "child: bytes in huge pages, split", 0, other.do(thp.in_huge_pages))
        huge, how = other.do(thp.collapse)
        me.note("smaps", f"child: bytes in huge pages ({how})", HUGE_BYTES, huge)
        me.note("smaps", "child: private bytes", HUGE_BYTES, other.do(_private_bytes))
        _note_private(me, HUGE_BYTES)
        other.do(_expect_own_first_page)
        me.expect(BEFORE)
        me.write(PARENT, protected=False)
        me.note("smaps", "parent: bytes in huge pages", HUGE_BYTES, thp.in_huge_pages(me))
        other.do(_expect_own_first_page)
        me.expect(PARENT)


def _write_first_page(me: Writer) -> None:
    with me.watch(every_page=False):
        me.region.view[0] = CHILD


def _expect_own_first_page(me: Writer) -> None:
    me.expect_that([*me.region.load()] == [CHILD, *[BEFORE] * (me.region.pages - 1)])


def _collapse(me: Writer) -> int:
    calls.madvise(me.region.start, HUGE_BYTES, calls.MADV_HUGEPAGE)
    return thp.collapse(me)[0]


def _wait_for_khugepaged(me: Writer) -> int:
    calls.madvise(me.region.start, HUGE_BYTES, calls.MADV_HUGEPAGE)
    return thp.wait_for_khugepaged(me)


def _swapped(pages: int) -> tuple[Expected, ...]:
    return (parent(reused=pages if last_is_re_marked() else 0), child(copied=pages))


@_private(
    _swapped,
    frames=3,
    needs=swap,
    claim="of pages that both sides have in swap, the first writer copies, the last does not",
    varies=True,
    unseen_by={"tracepoint": "the page is not present as the fault begins"},
)
def swap_both_then_write(me: Writer) -> None:
    """both sides' pages are in swap; the child writes them (copied), then the parent"""
    me.populate(BEFORE)
    swap_out(me)
    with me.fork() as other:
        other.do(write_swapped)
        me.note("smaps", "child: private bytes", me.region.size_bytes, other.do(_private_bytes))
        if last_is_re_marked():
            me.write(PARENT)
            me.frames_cannot_show("reused")  # the page had no frame before
        else:
            me.region.store(PARENT)
        _note_private(me, me.region.size_bytes)
        other.do(Writer.expect, CHILD)
    me.expect(PARENT)


@_private(
    lambda pages: (parent(reused=pages), child()),
    frames=1,
    claim="pages left by a child that exited are re-marked, also after mprotect: not copied",
)
def mprotect_round_trip_after_exit(me: Writer) -> None:
    """the child exits, mprotect to read-only and back; the parent writes: re-marked"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Writer.expect, BEFORE)
    protect_and_back(me.region.start, me.region.size_bytes)
    _note_private(me, me.region.size_bytes)
    me.write(PARENT)
    _note_private(me, me.region.size_bytes)
    me.expect(PARENT)


def _note_private(me: Writer, expected: int) -> None:
    me.note("smaps", f"{me.role}: private bytes", expected, _private_bytes(me))


def _private_bytes(me: Writer) -> int:
    """Of the region and of what is mapped with it."""
    huge = me.region.backing is Backing.HUGE
    sizes = smaps_sizes(me.region.start, HUGE_BYTES if huge else me.region.size_bytes)
    return sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)
