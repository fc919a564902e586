"""Workloads on transparent huge pages: mapped by one entry, copied page by page."""

from __future__ import annotations

import mmap
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads import calls, features, pagemap, settings
from cowtrace.workloads.counts import Expected, ExpectedRow
from cowtrace.workloads.expectations import child, copied, parent
from cowtrace.workloads.forks import BEFORE, CHILD, PARENT
from cowtrace.workloads.oracles import smaps, vmstat
from cowtrace.workloads.region import HUGE_BYTES, PAGE_BYTES, Backing
from cowtrace.workloads.unsupported import CannotHere
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writing_process import Actor

_SYSFS = "/sys/kernel/mm/transparent_hugepage"
_GROUP = "transparent huge page"
_SMALL = HUGE_BYTES // PAGE_BYTES
_FRAMES = 2 * _SMALL  # for few pages: whole huge ones all the same
_PATIENCE = 20  # seconds for khugepaged


def _huge_pages(pages: int) -> int:
    return -(-pages // _SMALL)


def _reused(faults: int) -> ExpectedRow:
    return ExpectedRow(FaultKind.REUSED, Source.THP, Origin.USER, faults, 0)


@contextmanager
def _enabled(pages: int) -> Iterator[None]:
    chosen = settings.read(f"{_SYSFS}/enabled")
    with settings.changed({f"{_SYSFS}/enabled": "madvise"} if chosen == "never" else {}):
        yield


def _populate(me: Actor) -> None:
    """Touch the region; raises CannotHere when the kernel had no huge pages for it."""
    me.populate(BEFORE)
    if _in_huge_pages(me) < _huge_pages(me.region.pages) * HUGE_BYTES:
        raise CannotHere("the kernel gave no transparent huge page")


def _in_huge_pages(me: Actor) -> int:
    """Bytes of the region that huge entries map in this process."""
    whole = _huge_pages(me.region.pages) * HUGE_BYTES
    return smaps.of_range(me.region.start, whole).get("AnonHugePages", 0)


@workload(
    lambda pages: (parent(), child(copied(pages, Source.THP))),
    backing=Backing.HUGE,
    frames=4,
    needs=_enabled,
    group=_GROUP,
    claim="a write to a shared huge page splits its entry and copies one small page",
)
def thp_child_writes(me: Actor) -> None:
    """the child writes small pages of shared huge ones: split, then copied one by one"""
    _populate(me)
    with me.fork() as other:
        split = _huge_pages(me.region.pages)
        with vmstat.at_least(me.evidence, "thp_split_pmd", split):
            other.do(Actor.write, CHILD)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)
        me.note("smaps", "child: bytes in huge pages", 0, other.do(_in_huge_pages))
        me.note("smaps", "parent: bytes in huge pages", split * HUGE_BYTES, _in_huge_pages(me))


@workload(
    lambda pages: (parent(_reused(_huge_pages(pages))), child()),
    backing=Backing.HUGE,
    frames=4,
    needs=_enabled,
    group=_GROUP,
    claim="a huge page that no one shares any more is marked writable whole, by one fault",
    unseen_by={"tracepoint": "it counts faults that repeat since the entry was still cached"},
)
def thp_parent_after_child_exit(me: Actor) -> None:
    """the child exits without a write, the parent writes: one fault for a huge page"""
    _populate(me)
    with me.fork() as other:
        other.do(Actor.expect, BEFORE)
    me.write_unprotected(PARENT)
    me.expect(PARENT)
    whole = _huge_pages(me.region.pages) * HUGE_BYTES
    me.note("smaps", "bytes in huge pages", whole, _in_huge_pages(me))


@workload(
    lambda pages: (parent(copied(pages, Source.THP)), child(copied(pages, Source.THP))),
    backing=Backing.HUGE,
    frames=4,
    most=_SMALL - 1,  # the child leaves a part of the huge page shared
    needs=_enabled,
    group=_GROUP,
    claim="of a huge page that the other side has left in part, each small page is copied again",
)
def thp_both_write(me: Actor) -> None:
    """the child writes small pages, then the parent the same: copied in both"""
    _populate(me)
    with me.fork() as other:
        other.do(Actor.write, CHILD)
        me.write(PARENT)
        me.expect(PARENT)
        other.do(Actor.expect, CHILD)


def _remainder(pages: int) -> tuple[Expected, ...]:
    """Whether pages of a large folio can be exclusive again one by one.

    They can since "mm: Copy-on-Write (COW) reuse support for PTE-mapped THP" (6.15), which counts
    a folio's mappings by mm: the member that holds this is its sign.
    """
    if features.has_type("_mm_id_mapcount"):
        row = ExpectedRow(FaultKind.REUSED, Source.ANON, Origin.USER, pages, 0)
        return (parent(row), child())
    return (parent(copied(pages, Source.THP)), child())


@workload(
    _remainder,
    backing=Backing.HUGE,
    frames=4,
    most=_SMALL - 1,  # all but the page that is protected
    needs=_enabled,
    group=_GROUP,
    claim="pages of a split huge page that no one shares any more: the kernel's own way",
)
def thp_split_then_alone(me: Actor) -> None:
    """the huge entry is split by the parent, the child exits, the parent writes"""
    _populate(me)
    with me.fork() as other:
        other.do(Actor.expect, BEFORE)
        # Protecting one page of it splits the entry, and copies nothing.
        last = me.region.start + HUGE_BYTES - PAGE_BYTES
        calls.mprotect(last, PAGE_BYTES, calls.PROT_READ)
    me.write(PARENT)
    me.expect(PARENT)


def _huge_zero(pages: int) -> tuple[Expected, ...]:
    zero = (FaultKind.ZERO_FILLED, Source.ZERO, Origin.USER)
    if not _zero_page_is_replaced_whole():
        return (parent(ExpectedRow(*zero, pages, pages * PAGE_BYTES)),)
    huge = _huge_pages(pages)
    whole = ExpectedRow(FaultKind.ZERO_FILLED, Source.THP, Origin.USER, huge, huge * HUGE_BYTES)
    return (parent(whole),)


@contextmanager
def _huge_zero_enabled(pages: int) -> Iterator[None]:
    with _enabled(pages), settings.changed({f"{_SYSFS}/use_zero_page": "1"}):
        yield


@workload(
    _huge_zero,
    backing=Backing.HUGE,
    frames=4,
    needs=_huge_zero_enabled,
    group=_GROUP,
    claim="the huge zero page gives way to zeroes, it is not copied",
    unseen_by={"tracepoint": "it does not see huge pages allocated in a fault"},
)
def huge_zero_page(me: Actor) -> None:
    """reads untouched huge memory, then writes it: zeroes, in small or huge pages"""
    me.read()
    me.expect(0)
    if _zero_page_is_replaced_whole():
        me.cannot_tell(zero_filled=None)  # pages that change at once are one fault
    me.write_unprotected(PARENT)
    me.expect(PARENT)


def _zero_page_is_replaced_whole() -> bool:
    """Whether a write to the huge zero page gives a huge page of zeroes, not a small one.

    It does since "mm: huge_memory: handle huge zero page write faults by allocating a huge page"
    or so (6.13). Found by doing it to huge memory elsewhere.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, 2 * HUGE_BYTES, flags=flags) as memory:
        first = -(-pagemap.address_of(memory) // HUGE_BYTES) * HUGE_BYTES
        calls.madvise(first, HUGE_BYTES, calls.MADV_HUGEPAGE)
        at = first - pagemap.address_of(memory)
        _ = memory[at]
        memory[at] = 1
        return smaps.of_range(first, HUGE_BYTES).get("AnonHugePages", 0) > 0


@workload(
    lambda pages: (parent(), child(copied(pages, Source.THP))),
    backing=Backing.HUGE,
    frames=6,
    most=_SMALL,
    needs=_enabled,
    group=_GROUP,
    claim="when khugepaged makes small pages huge again, that is no copy on write",
)
def thp_collapse(me: Actor) -> None:
    """the child writes (copied), its pages are made huge again, it writes: no fault"""
    _populate(me)
    with me.fork() as other:
        other.do(Actor.write, CHILD)
        huge, how = other.do(_collapse)
        me.note("smaps", f"child: bytes in huge pages ({how})", HUGE_BYTES, huge)
        faults = other.do(_faults_of_a_write, CHILD + 1)
        me.note_of_thread("rusage", "child: page faults of the write after it", 0, faults)
        other.do(Actor.expect, CHILD + 1)
        me.expect(BEFORE)


def _collapse(me: Actor) -> tuple[int, str]:
    """Bytes in huge pages afterwards, and who collapsed them."""
    try:
        calls.madvise(me.region.start, HUGE_BYTES, calls.MADV_COLLAPSE)
        return _in_huge_pages(me), "MADV_COLLAPSE"
    except OSError:
        pass  # before 6.1
    khugepaged = f"{_SYSFS}/khugepaged"
    wanted = {
        f"{khugepaged}/max_ptes_shared": "511",
        f"{khugepaged}/pages_to_scan": "4096",
        f"{khugepaged}/alloc_sleep_millisecs": "10",
        f"{khugepaged}/scan_sleep_millisecs": "10",
    }
    end = time.monotonic() + _PATIENCE
    with settings.changed(wanted):
        while not (huge := _in_huge_pages(me)) and time.monotonic() < end:
            time.sleep(0.05)
    if not huge:
        raise CannotHere(f"khugepaged collapsed nothing in {_PATIENCE} s")
    return huge, "khugepaged"


def _faults_of_a_write(me: Actor, value: int) -> int:
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    me.region.store(value)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
