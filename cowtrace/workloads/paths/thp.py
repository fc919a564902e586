"""Write transparent huge pages, which one entry maps and which are copied page by page."""

from __future__ import annotations

import functools
import mmap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial

from cowtrace.frames.words import address_of
from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads import calls, features, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.forks import fork_both_write
from cowtrace.workloads.oracles.proc_files import smaps_sizes, vmstat_grows
from cowtrace.workloads.outcome import Expected, ExpectedRow, child, copied, parent, reused
from cowtrace.workloads.region import HUGE_BYTES, HUGE_PAGES, PAGE_BYTES, Backing
from cowtrace.workloads.stepped_child import Child
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

SYSFS = "/sys/kernel/mm/transparent_hugepage"
_PATIENCE = 60  # seconds for khugepaged


def _huge_pages(pages: int) -> int:
    return -(-pages // HUGE_PAGES)


def enabled(pages: int) -> AbstractContextManager[None]:
    path = f"{SYSFS}/enabled"
    off = settings.read(path) == "never"
    return settings.changed({path: "madvise"}) if off else nullcontext()


_huge = partial(
    workload, backing=Backing.HUGE, frames=4, needs=enabled, group="transparent huge page"
)


def populate(me: Writer) -> None:
    """Touch the region; raises Unsupported when the kernel had no huge pages for it."""
    me.populate(BEFORE)
    if in_huge_pages(me) < whole(me):
        raise Unsupported("the kernel allocated no transparent huge page")


def in_huge_pages(me: Writer) -> int:
    """Bytes of the region that huge entries map in this process."""
    return smaps_sizes(me.region.start, whole(me)).get("AnonHugePages", 0)


def whole(me: Writer) -> int:
    """Bytes of the huge pages that hold the region."""
    return _huge_pages(me.region.pages) * HUGE_BYTES


@_huge(
    lambda pages: (parent(), child(copied(pages, Source.THP))),
    claim="a write to a shared huge page splits its entry and copies one small page",
)
def thp_child_writes(me: Writer) -> None:
    """the child writes small pages of shared huge ones: split, then copied one by one"""
    populate(me)
    with me.fork() as other:
        with vmstat_grows(me.evidence, "thp_split_pmd", _huge_pages(me.region.pages)):
            other.do(Writer.write, CHILD)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)
        me.note("smaps", "child: bytes in huge pages", 0, other.do(in_huge_pages))
        me.note("smaps", "parent: bytes in huge pages", whole(me), in_huge_pages(me))


@_huge(
    lambda pages: (parent(reused(_huge_pages(pages), Source.THP)), child()),
    claim="one fault marks a whole huge page writable when its writer is the only holder",
    unseen_without_table="it counts repeated faults of an entry that is still in the TLB",
)
def thp_parent_after_child_exit(me: Writer) -> None:
    """the child exits without a write, the parent writes: one fault for a huge page"""
    populate(me)
    with me.fork() as other:
        other.do(Writer.expect, BEFORE)
    me.write(PARENT, protected=False)
    me.expect(PARENT)
    me.note("smaps", "bytes in huge pages", whole(me), in_huge_pages(me))


@_huge(
    lambda pages: (parent(copied(pages, Source.THP)), child(copied(pages, Source.THP))),
    most=HUGE_PAGES - 1,  # the child leaves a part of the huge page shared
    claim="while the child still shares a part of a huge page, the parent's writes copy as well",
)
def thp_both_write(me: Writer) -> None:
    """the child writes small pages, then the parent the same: copied in both"""
    populate(me)
    fork_both_write(me)


def pages_become_exclusive() -> bool:
    """Whether single pages of a large folio can become exclusive again.

    They can since "mm: Copy-on-Write (COW) reuse support for PTE-mapped THP" (6.15), which counts
    a folio's mappings by mm: the member that holds this is its sign.
    """
    return features.has_type("_mm_id_mapcount")


def _remainder(pages: int) -> tuple[Expected, ...]:
    if pages_become_exclusive():
        return (parent(reused(pages)), child())
    return (parent(copied(pages, Source.THP)), child())


@_huge(
    _remainder,
    most=HUGE_PAGES - 1,  # all but the page that is protected
    claim="pages of a split huge page with one holder: re-marked or copied, by kernel version",
    varies=True,
)
def thp_split_then_alone(me: Writer) -> None:
    """the huge entry is split by the parent, the child exits, the parent writes"""
    populate(me)
    with me.fork() as other:
        other.do(Writer.expect, BEFORE)
        # Protecting one page of it splits the entry, and copies nothing.
        last = me.region.start + HUGE_BYTES - PAGE_BYTES
        calls.mprotect(last, PAGE_BYTES, calls.PROT_READ)
    me.write(PARENT)
    me.expect(PARENT)


def huge_zero(pages: int) -> tuple[Expected, ...]:
    zero = (FaultKind.ZERO_FILLED, Source.ZERO, Origin.USER)
    if not _zero_page_is_replaced_whole():
        return (parent(ExpectedRow(*zero, pages, pages * PAGE_BYTES)),)
    huge = _huge_pages(pages)
    whole = ExpectedRow(FaultKind.ZERO_FILLED, Source.THP, Origin.USER, huge, huge * HUGE_BYTES)
    return (parent(whole),)


@contextmanager
def huge_zero_enabled(pages: int) -> Iterator[None]:
    with enabled(pages), settings.changed({f"{SYSFS}/use_zero_page": "1"}):
        yield


@_huge(
    huge_zero,
    needs=huge_zero_enabled,
    claim="a write to the huge zero page gives fresh zeroes: it is not copied",
    varies=True,
    unseen_without_table="it does not see huge pages allocated in a fault",
)
def huge_zero_page(me: Writer) -> None:
    """reads untouched huge memory, then writes it: zeroes, in small or huge pages"""
    write_huge_zero(me)


def write_huge_zero(me: Writer) -> None:
    """Read the region, which is untouched, then write it."""
    me.read()
    me.expect(0)
    if _zero_page_is_replaced_whole():
        me.frames_cannot_show("zero_filled")  # pages that change at once are one fault
    me.write(PARENT, protected=False)
    me.expect(PARENT)


@functools.cache
def _zero_page_is_replaced_whole() -> bool:
    """Whether a write to the huge zero page gives a huge page of zeroes, not a small one.

    It does since "mm: huge_memory: handle huge zero page write faults by allocating a huge page"
    or so (6.13). Found by trying it on other huge memory, in another process: one that has mapped
    the huge zero page keeps it from being freed.
    """
    with closing(Child(lambda: None)) as other:
        return other.do(_replaces_whole)


def _replaces_whole(nothing: None) -> bool:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, 2 * HUGE_BYTES, flags=flags) as memory:
        first = -(-address_of(memory) // HUGE_BYTES) * HUGE_BYTES
        calls.madvise(first, HUGE_BYTES, calls.MADV_HUGEPAGE)
        at = first - address_of(memory)
        _ = memory[at]
        memory[at] = 1
        return smaps_sizes(first, HUGE_BYTES).get("AnonHugePages", 0) > 0


@_huge(
    lambda pages: (parent(), child(copied(pages, Source.THP))),
    frames=6,
    most=HUGE_PAGES,
    claim="khugepaged's copies of small pages into a huge one are not copies on write",
)
def thp_collapse(me: Writer) -> None:
    """the child writes (copied), its pages are made huge again, it writes: no fault"""
    populate(me)
    with me.fork() as other:
        other.do(Writer.write, CHILD)
        huge, how = other.do(collapse)
        me.note("smaps", f"child: bytes in huge pages ({how})", HUGE_BYTES, huge)
        faults = other.do(Writer.faults_of_write, CHILD + 1)
        me.note_of_thread("rusage", "child: page faults of the write after it", 0, faults)
        other.do(Writer.expect, CHILD + 1)
        me.expect(BEFORE)


def collapse(me: Writer) -> tuple[int, str]:
    """Collapse the region: bytes in huge pages afterwards, and what collapsed them."""
    try:
        return collapse_by_advice(me), "MADV_COLLAPSE"
    except OSError:  # before 6.1
        return wait_for_khugepaged(me), "khugepaged"


def collapse_by_advice(me: Writer) -> int:
    """Bytes of the region in huge pages after MADV_COLLAPSE. Raises OSError if it is refused."""
    calls.madvise(me.region.start, HUGE_BYTES, calls.MADV_COLLAPSE)
    return in_huge_pages(me)


def wait_for_khugepaged(me: Writer, found: Callable[[Writer], int] = in_huge_pages) -> int:
    """Bytes of the region in huge pages, or what else `found` returns, once it is not 0."""
    khugepaged = f"{SYSFS}/khugepaged"
    wanted = {
        f"{khugepaged}/max_ptes_shared": str(HUGE_PAGES - 1),
        f"{khugepaged}/pages_to_scan": "4096",
        f"{khugepaged}/alloc_sleep_millisecs": "10",
        f"{khugepaged}/scan_sleep_millisecs": "10",
    }
    end = time.monotonic() + _PATIENCE
    with settings.changed(wanted):
        while not (huge := found(me)) and time.monotonic() < end:
            time.sleep(0.05)
    if not huge:
        raise Unsupported(f"khugepaged collapsed nothing in {_PATIENCE} s")
    return huge
