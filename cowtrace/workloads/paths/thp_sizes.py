"""Write multi-size THP: a folio of each size that the kernel offers, mapped page by page.

The region is one huge page's worth of addresses. The folio of a size begins as many bytes after
the region's start: 64 KiB at 64 KiB, 128 KiB at 128 KiB. So each is aligned, and all follow one
another. Multi-size THP came with "mm: thp: introduce multi-size THP sysfs interface" (6.8).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from cowtrace.model import Source
from cowtrace.workloads import calls, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.proc_files import compound_pages
from cowtrace.workloads.outcome import Expected, child, copied, expected, parent, reused
from cowtrace.workloads.paths.thp import SYSFS, pages_become_exclusive
from cowtrace.workloads.region import HUGE_PAGES, PAGE_BYTES, Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_SMALLEST_PAGES = 4  # of anonymous memory: order 2
SIZES = tuple(1 << order for order in range(2, HUGE_PAGES.bit_length() - 1))  # pages of each folio
FOLIO_PAGES = sum(SIZES)


def _most_prime(below: int) -> int:
    """The largest prime below a number."""
    return next(n for n in range(below - 1, 1, -1) if all(n % d for d in range(2, n)))


_SOME = tuple(map(_most_prime, SIZES))  # pages that are written of each folio


def enabled_file(pages: int) -> str:
    """The setting of who gets folios of that size."""
    return f"{SYSFS}/hugepages-{pages * PAGE_BYTES >> 10}kB/enabled"


@contextmanager
def _one_size_at_a_time(pages: int) -> Iterator[None]:
    """No fault gets a large folio, until _populate() allows one size; khugepaged finds none."""
    if not Path(enabled_file(HUGE_PAGES)).exists():
        raise Unsupported("this kernel has no multi-size THP, which came with Linux 6.8")
    with settings.changed({enabled_file(size): "never" for size in (*SIZES, HUGE_PAGES)}):
        yield


mthp = partial(
    workload,
    backing=Backing.HUGE,
    frames=4,
    least=HUGE_PAGES,
    most=HUGE_PAGES,
    needs=_one_size_at_a_time,
    group="multi-size THP",
)


def _populate(me: Writer) -> list[int]:
    """Put a folio of each size into the region, which becomes what they map; their frames.

    Raises Unsupported when the kernel had none of some size.
    """
    for size in SIZES:
        settings.write(enabled_file(size), "madvise")
        me.region.view[size * PAGE_BYTES] = BEFORE  # this fault maps the whole folio
        settings.write(enabled_file(size), "never")
    at = _SMALLEST_PAGES * PAGE_BYTES
    view, start = me.region.view[at:], me.region.start + at
    me.region = replace(me.region, pages=FOLIO_PAGES, view=view, start=start)
    me.populate(BEFORE)
    frames = me.frames()
    if not all(frames):
        raise Unsupported("frame numbers are hidden: they would show how large a folio is")
    found = tuple(compound_pages(frames[size - _SMALLEST_PAGES :]) for size in SIZES)
    missing = [size for size, pages in zip(SIZES, found, strict=True) if size != pages]
    if missing:
        raise Unsupported(f"the kernel allocated no folio of {missing[0]} pages")
    me.note("kpageflags", "pages of each folio", _listed(SIZES), _listed(found))
    return frames


def _listed(counts: tuple[int, ...]) -> str:
    return " ".join(map(str, counts))


def _note_changed(
    me: Writer, what: str, wanted: tuple[int, ...], before: list[int], after: list[int]
) -> None:
    """Evidence of how many pages of each folio have another frame now."""
    changed = list(map(int.__ne__, before, after))
    firsts = [size - _SMALLEST_PAGES for size in SIZES]
    found = tuple(sum(changed[at : at + size]) for at, size in zip(firsts, SIZES, strict=True))
    me.note("pagemap", f"{what}, of each folio", _listed(wanted), _listed(found))


def _first_pages(counts: tuple[int, ...]) -> tuple[int, ...]:
    """The first pages of each folio, as many as its count, by their number in the region."""
    firsts = (size - _SMALLEST_PAGES for size in SIZES)
    each = (range(at, at + count) for at, count in zip(firsts, counts, strict=True))
    return tuple(chain(*each))


_PARTLY = copied(sum(_SOME), Source.THP)


@mthp(
    lambda pages: (parent(_PARTLY), child(_PARTLY)),
    claim="both sides copy the pages of a partly shared large folio, whatever its size",
)
def mthp_partly_shared(me: Writer) -> None:
    """child and parent write a prime number of each large folio's pages: both copy"""
    mine, some = _populate(me), _first_pages(_SOME)
    with me.fork() as other:
        other.do(Writer.write_pages, CHILD, some)
        _note_changed(me, "child: copied", _SOME, mine, other.do(Writer.frames))
        me.write_pages(PARENT, some)
        _note_changed(me, "parent: copied", _SOME, mine, me.frames())
        other.do(Writer.expect_pages, CHILD, some)
        me.expect_pages(PARENT, some)


def _last_holder(pages: int) -> Expected:
    """What a parent counts that writes all pages when it is the only one to map the folios."""
    if pages_become_exclusive():
        return parent(reused(pages))
    return parent(copied(pages, Source.THP))


@mthp(
    lambda pages: (_last_holder(FOLIO_PAGES), child()),
    claim="large folios with one holder: their pages are re-marked or copied, by kernel version",
    varies=True,
)
def mthp_then_alone(me: Writer) -> None:
    """the child exits without a write, then the parent writes all pages"""
    mine = _populate(me)
    with me.fork() as other:
        other.do(Writer.expect, BEFORE)
    _write_as_last(me, mine)


def _write_as_last(me: Writer, mine: list[int]) -> None:
    me.write(PARENT)
    copies = (0,) * len(SIZES) if pages_become_exclusive() else SIZES
    _note_changed(me, "parent: copied", copies, mine, me.frames())
    me.expect(PARENT)


@mthp(
    lambda pages: (_last_holder(FOLIO_PAGES), child(copied(FOLIO_PAGES, Source.THP))),
    claim="large folios that the child has copied whole: the parent re-marks or copies, by version",
    varies=True,
)
def mthp_child_copies_all(me: Writer) -> None:
    """the child copies all pages and goes on; then the parent writes them"""
    mine = _populate(me)
    with me.fork() as other:
        other.do(Writer.write, CHILD)
        _note_changed(me, "child: copied", SIZES, mine, other.do(Writer.frames))
        _write_as_last(me, mine)
        other.do(Writer.expect, CHILD)


_ONE_EACH = (1,) * len(SIZES)


@mthp(
    lambda pages: (parent(copied(len(SIZES), Source.THP)), child()),
    claim="the last mapped page of a large folio is copied, so that the folio can be freed",
)
def mthp_one_page_left(me: Writer) -> None:
    """the child exits, the parent drops all but one page of each folio, writes these"""
    mine = _populate(me)
    with me.fork() as other:
        other.do(Writer.expect, BEFORE)
    for size in SIZES:
        start = me.region.start + (size - _SMALLEST_PAGES) * PAGE_BYTES
        calls.madvise(start + PAGE_BYTES, (size - 1) * PAGE_BYTES, calls.MADV_DONTNEED)
    left = me.frames()
    _note_changed(me, "parent: dropped", tuple(size - 1 for size in SIZES), mine, left)
    me.write_pages(PARENT, _first_pages(_ONE_EACH))
    _note_changed(me, "parent: copied", _ONE_EACH, left, me.frames())
    for page in _first_pages(_ONE_EACH):
        me.expect_that(me.region.view[page * PAGE_BYTES] == PARENT)


@mthp(
    lambda pages: (
        _last_holder(FOLIO_PAGES),
        child(copied(FOLIO_PAGES, Source.THP)),
        expected("sibling", copied(FOLIO_PAGES, Source.THP)),
    ),
    frames=6,
    claim="of three holders of large folios two copy; the last re-marks or copies, by version",
    varies=True,
)
def mthp_three_sharers(me: Writer) -> None:
    """two children copy all pages one after the other, then the parent writes them"""
    mine = _populate(me)
    with me.fork() as other, me.fork("sibling") as third:
        other.do(Writer.write, CHILD)
        third.do(Writer.write, CHILD + 1)
        _note_changed(me, "sibling: copied", SIZES, mine, third.do(Writer.frames))
        _write_as_last(me, mine)
        other.do(Writer.expect, CHILD)
        third.do(Writer.expect, CHILD + 1)


@mthp(
    # A folio counts the mappings of two mms by mm. The third one's are in the sum alone, so it
    # is taken for shared even when no other is left: folio_maybe_mapped_shared(). Kernels that
    # count by page copy, too.
    lambda pages: (
        parent(),
        child(),
        expected("sibling", copied(FOLIO_PAGES, Source.THP)),
    ),
    claim="the third holder of a large folio copies its pages, even when it is the last one",
)
def mthp_third_sharer_left(me: Writer) -> None:
    """of three holders the first drops the pages, the second exits; the third writes"""
    mine = _populate(me)
    with ExitStack() as stack:
        with me.fork() as second:
            third = stack.enter_context(me.fork("sibling"))
            second.do(Writer.expect, BEFORE)
        calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_DONTNEED)
        third.do(Writer.write, CHILD)
        _note_changed(me, "sibling: copied", SIZES, mine, third.do(Writer.frames))
        third.do(Writer.expect, CHILD)
