"""Write pages that were swapped out: before or after fork, by advice or by a cgroup's limit."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

from cowtrace.workloads import calls, features, pagemap, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import Evidence, Expected, child, expected, parent
from cowtrace.workloads.region import PAGE_BYTES
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, GRANDCHILD, PARENT, Writer

_LEAST_SWAP_BYTES = 16 << 20
ABSENT = {"tracepoint": "the page is not present as the fault begins"}


def swap(pages: int) -> AbstractContextManager[None]:
    """A swap file with room for them."""
    return settings.swap(max(_LEAST_SWAP_BYTES, 4 * pages * PAGE_BYTES))


def swap_out(me: Writer) -> None:
    """Populate the region, and swap it out. Raises Unsupported if some of it stays."""
    me.populate(BEFORE)
    calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_PAGEOUT)
    swapped = swapped_pages(me)
    if swapped != me.region.pages:
        raise Unsupported(f"the kernel swapped out {swapped} of {me.region.pages} pages")
    me.note("pagemap", "pages swapped out", me.region.pages, swapped)


def swapped_pages(me: Writer) -> int:
    """Pages of the region that are swapped out in this process."""
    return pagemap.pages_with(me.region, pagemap.SWAPPED)


def write_swapped(me: Writer) -> None:
    """Write the region, which is swapped out."""
    me.write(CHILD)
    me.frames_cannot_show("copied")  # the page had no frame before


def _last_is_re_marked() -> bool:
    """Whether do_swap_page() maps the page of the last writer read-only, so that it is re-marked.

    7.2 does, 6.18 maps it writable. "mm, swap: cleanup swap entry management workflow" (7.0), which
    frees a place in swap later, is its sign.
    """
    return features.has_type("folio_put_swap")


def re_marked(pages: int) -> int:
    """Of pages that are read back for a write by their last holder, those that are re-marked."""
    return pages if _last_is_re_marked() else 0


def write_as_last(me: Writer, value: int) -> int | None:
    """Write pages that are in swap, and that no other process refers to.

    Returns the page faults where none of them is of a kind that cowtrace counts: the fault that
    reads a page back maps it writable. Whether it was copied, no frame number shows, for the page
    had none before, and taskstats only where it counts more copies than are expected: by a plan
    that cannot see the path, an expectation of copies here is not contradicted.
    """
    faults = None
    if _last_is_re_marked():
        me.write(value)
    else:
        faults = me.write_uncounted(value)
    me.frames_cannot_show("reused")
    me.frames_cannot_show("copied")
    return faults


def note_read_back(me: Writer, role: str, faults: int | None) -> None:
    """Evidence, where the last holder's page is not re-marked, that each page was read back."""
    if not _last_is_re_marked():
        me.note_of_thread("rusage", f"{role}: pages read back", me.region.pages, faults)


_swap = partial(workload, frames=3, needs=swap, group="swapped-out page")


@_swap(
    # do_swap_page() reads the page in; another process still refers to its swap slot, so it calls
    # do_wp_page(). On every kernel so far.
    lambda pages: (parent(), child(copied=pages)),
    claim="a shared page that is swapped out is read back and copied when it is written",
    unseen_by=ABSENT,
)
def swapped_out(me: Writer) -> None:
    """pages are swapped out, then fork; the child writes them: read back, then copied"""
    swap_out(me)
    with me.fork() as other:
        other.do(write_swapped)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)  # reads them in for the parent
        theirs = other.do(Writer.frames)
        me.note_frames("child: frames that are not the parent's", me.frames(), theirs, differ=True)


def _read_back(pages: int) -> tuple[Expected, ...]:
    """Whether the last holder's write finds that only the swap cache refers to its page as well.

    Kernels with this function copy: "mm: do_wp_page() simplification" (5.9). "mm: optimize
    do_wp_page() for exclusive pages in the swapcache" (5.18) frees the place in swap first.
    """
    if features.has_function("reuse_swap_page"):
        return (parent(copied=pages), child(copied=pages))
    return (parent(reused=pages), child(copied=pages))


@_swap(
    _read_back,
    claim="pages that both sides read back from swap are one frame: the first writer copies it",
    varies=True,
)
def swap_read_then_write(me: Writer) -> None:
    """both read their pages back from swap; the child writes (copied), then the parent"""
    swap_out(me)
    with me.fork() as other:
        other.do(Writer.expect, BEFORE)
        me.expect(BEFORE)
        me.note_frames("frames that both read", me.frames(), other.do(Writer.frames))
        other.do(Writer.write, CHILD)
        me.write(PARENT)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)


@_swap(
    lambda pages: (parent(reused=re_marked(pages)), child()),
    claim="pages in swap that only their writer still refers to are read back, not copied",
    varies=True,
    unseen_by=ABSENT,
)
def swap_then_alone(me: Writer) -> None:
    """pages are swapped out, a child comes and goes; the parent writes: no copy"""
    swap_out(me)
    with me.fork() as other:
        me.note("pagemap", "child: pages swapped out", me.region.pages, other.do(swapped_pages))
    note_read_back(me, "parent", write_as_last(me, PARENT))
    me.expect(PARENT)


@_swap(
    lambda pages: (parent(copied=pages), child(reused=re_marked(pages))),
    claim="of pages that both sides have in swap, the parent copies when it writes first",
    varies=True,
    unseen_by=ABSENT,
)
def swap_parent_first(me: Writer) -> None:
    """both sides' pages are in swap; the parent writes them (copied), then the child"""
    swap_out(me)
    with me.fork() as other:
        me.write(PARENT)
        me.frames_cannot_show("copied")  # the page had no frame before
        note_read_back(me, "child", other.do(write_as_last, CHILD))
        theirs = other.do(Writer.frames)
        me.note_frames("child: frames that are not the parent's", me.frames(), theirs, differ=True)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)


# Pages that the child writes, and that its cgroup may hold: more than its interpreter's own.
_PAGES, _LIMIT_PAGES = 2053, 1024
_MOST_RECLAIMS = 32  # of as much as the region, which is not all that the cgroup holds
_cgroup = partial(_swap, group="memory cgroup")


@_cgroup(
    lambda pages: (parent(), child(copied=pages)),
    least=_PAGES,
    claim="copies that a memory cgroup reclaims meanwhile are counted once, and keep their data",
)
def memcg_reclaim(me: Writer) -> None:
    """the child copies more than its cgroup may hold: the first copies are swapped out"""
    with settings.memory_cgroup() as (folder, limit):
        me.populate(BEFORE)
        with me.fork() as other:
            other.do(_enter, folder)
            settings.write(str(folder / limit), str(_LIMIT_PAGES * PAGE_BYTES))
            other.do(_write_under_limit)
            swapped = other.do(swapped_pages)
            least = me.region.pages - _LIMIT_PAGES
            what = "child: copies that were swapped out, at least"
            me.evidence.append(Evidence("pagemap", what, least, swapped, swapped >= least))
            other.do(Writer.expect, CHILD)  # reads them back
            me.note("pagemap", "parent: pages swapped out", 0, swapped_pages(me))
            me.expect(BEFORE)


def _enter(me: Writer, folder: Path) -> None:
    """Join a memory cgroup, which is charged for what this process takes from now on."""
    settings.write(str(folder / "cgroup.procs"), str(os.getpid()))


def _write_under_limit(me: Writer) -> None:
    with me.watch():  # rehearsals would be reclaimed, too, and would fault each time
        me.region.store(CHILD)


@_cgroup(
    lambda pages: (
        parent(),
        child(reused=re_marked(pages)),
        expected("grandchild", copied=pages),
    ),
    frames=4,
    claim="a memory cgroup swaps shared pages out of both sides: the first writer copies them",
    varies=True,
    unseen_by=ABSENT,
)
def memcg_reclaim_shared(me: Writer) -> None:
    """a cgroup swaps out what child and grandchild share; the grandchild writes first"""
    with settings.memory_cgroup() as (folder, limit), me.fork() as other:
        other.do(_enter, folder)
        found, faults = other.do(_share_and_reclaim, folder, limit)
        note_read_back(me, "child", faults)
        for role, swapped in zip(("child", "grandchild"), found, strict=True):
            me.note("pagemap", f"{role}: pages swapped out", me.region.pages, swapped)


def _share_and_reclaim(me: Writer, folder: Path, limit: str) -> tuple[tuple[int, int], int | None]:
    """The pages that the cgroup swapped out, of each process; see `write_as_last`."""
    me.populate(BEFORE)
    with me.fork("grandchild") as other:

        def swapped() -> tuple[int, int]:
            return swapped_pages(me), other.do(swapped_pages)

        for _ in range(_MOST_RECLAIMS):
            if min(found := swapped()) == me.region.pages:
                break
            _reclaim(folder, limit, me.region.size_bytes)
        else:
            raise Unsupported(f"the kernel swapped out {min(found)} of {me.region.pages} pages")
        other.do(write_swapped)
        faults = write_as_last(me, GRANDCHILD)
        other.do(Writer.expect, CHILD)
        me.expect(GRANDCHILD)
    return found, faults


def _reclaim(folder: Path, limit: str, size_bytes: int) -> None:
    """Have the kernel reclaim so much of what a cgroup holds, and allow it to grow again.

    cgroup v2: by memory.high, which kills nobody. v1: a limit that it cannot reach is refused.
    """
    v2 = limit == "memory.max"
    high = folder / ("memory.high" if v2 else limit)
    used = int(settings.read(str(folder / ("memory.current" if v2 else "memory.usage_in_bytes"))))
    with suppress(OSError):
        high.write_text(str(max(0, used - size_bytes)), encoding="ascii")
    settings.write(str(high), "max" if v2 else "-1")
