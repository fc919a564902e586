"""Make memory private, or not, without a copy on write: both sides' private memory is compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cowtrace.model import Source
from cowtrace.workloads import calls
from cowtrace.workloads.oracles.proc_files import smaps_sizes
from cowtrace.workloads.outcome import child, copied, parent, reused
from cowtrace.workloads.paths import swapped, thp
from cowtrace.workloads.paths.write_protected import protect_and_back
from cowtrace.workloads.region import HUGE_BYTES, HUGE_PAGES, Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_private = partial(workload, group="private memory")
_collapsed = partial(
    _private,
    backing=Backing.HUGE,
    frames=6,
    most=HUGE_PAGES - 1,  # khugepaged leaves alone what is shared as a whole
    needs=thp.enabled,
)


@_private(
    lambda pages: (parent(), child()),
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
        other.do(Writer.expect_pages, CHILD, range(1))
        me.expect(BEFORE)


@_collapsed(
    lambda pages: (parent(reused(1, Source.THP)), child(copied(1, Source.THP))),
    claim="collapsing a split huge page copies it, also while the parent shares the small pages",
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
        other.do(Writer.expect_pages, CHILD, range(1))
        me.expect(BEFORE)
        me.write(PARENT, protected=False)
        me.note("smaps", "parent: bytes in huge pages", HUGE_BYTES, thp.in_huge_pages(me))
        other.do(Writer.expect_pages, CHILD, range(1))
        me.expect(PARENT)


def _write_first_page(me: Writer) -> None:
    with me.watch(every_page=False):
        me.region.view[0] = CHILD


def _collapse(me: Writer) -> int:
    calls.madvise(me.region.start, HUGE_BYTES, calls.MADV_HUGEPAGE)
    return thp.collapse(me)[0]


def _wait_for_khugepaged(me: Writer) -> int:
    calls.madvise(me.region.start, HUGE_BYTES, calls.MADV_HUGEPAGE)
    return thp.wait_for_khugepaged(me)


@_private(
    lambda pages: (parent(reused=swapped.re_marked(pages)), child(copied=pages)),
    frames=3,
    needs=swapped.swap,
    claim="of pages that both sides have in swap, the first writer copies, the last does not",
    varies=True,
    unseen_by=swapped.ABSENT,
)
def swap_both_then_write(me: Writer) -> None:
    """both sides' pages are in swap; the child writes them (copied), then the parent"""
    swapped.swap_out(me)
    with me.fork() as other:
        other.do(swapped.write_swapped)
        me.note("smaps", "child: private bytes", me.region.size_bytes, other.do(_private_bytes))
        swapped.note_read_back(me, "parent", swapped.write_as_last(me, PARENT))
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
