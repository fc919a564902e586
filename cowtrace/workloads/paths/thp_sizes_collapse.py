"""Have khugepaged collapse small pages into multi-size THP, beside pages that fork shares."""

from __future__ import annotations

from cowtrace.workloads import calls, features, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.proc_files import compound_pages
from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.paths.thp import wait_for_khugepaged
from cowtrace.workloads.paths.thp_sizes import enabled_file, mthp
from cowtrace.workloads.region import HUGE_BYTES, HUGE_PAGES
from cowtrace.workloads.writer import BEFORE, CHILD, Writer

_PAGES = 16  # of each folio that khugepaged may make
_BLOCKS = range(1, 14, 2)  # those that the child writes before: a prime number of them
_OWN = tuple(block * _PAGES + page for block in _BLOCKS for page in range(_PAGES))


@mthp(
    lambda pages: (parent(), child(copied=HUGE_PAGES)),
    claim="khugepaged makes large folios of pages that fork does not share, and of no others",
)
def mthp_khugepaged(me: Writer) -> None:
    """the child copies some pages, khugepaged collapses these; the child writes all"""
    # "mm/khugepaged: introduce mTHP collapse support" (7.2): this member is its sign. For sizes
    # below a huge page, max_ptes_shared is 0: collapse_max_ptes_shared().
    if not features.has_type("mthp_present_ptes"):
        raise Unsupported("khugepaged of this kernel makes no multi-size THP")
    calls.madvise(me.region.start, HUGE_BYTES, calls.MADV_NOHUGEPAGE)
    me.populate(BEFORE)
    mine = me.frames()
    with me.fork() as other:
        other.do(Writer.write_pages, CHILD, _OWN)
        copies = other.do(Writer.frames)
        collapsed = other.do(_collapse)
        me.note("kpageflags", "child: pages in large folios", len(_OWN), collapsed)
        after = other.do(Writer.frames)
        kept = sum(after[page] == copies[page] for page in _OWN)
        me.note("pagemap", "child: frames of its copies that it kept", 0, kept)
        shared = sum(map(int.__eq__, mine, after))
        me.note("pagemap", "child: pages that it still shares", HUGE_PAGES - len(_OWN), shared)
        other.do(Writer.write, CHILD, protected=False)  # its large folios do not fault
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _collapse(me: Writer) -> int:
    """Pages of the child's own that are in folios of that size, once khugepaged made some."""
    settings.write(enabled_file(_PAGES), "madvise")
    calls.madvise(me.region.start, HUGE_BYTES, calls.MADV_HUGEPAGE)
    wait_for_khugepaged(me, lambda one: _in_folios(one) == len(_OWN))
    settings.write(enabled_file(_PAGES), "never")
    return _in_folios(me)


def _in_folios(me: Writer) -> int:
    """Pages of the child's own that are in folios of that size."""
    frames = me.frames()
    starts = (block * _PAGES for block in _BLOCKS)
    whole = (compound_pages(frames[at : at + _PAGES]) == _PAGES for at in starts)
    return _PAGES * sum(whole)
