"""A workload on pages that are swapped out when they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cowtrace.workloads import calls, pagemap, settings
from cowtrace.workloads.expectations import child, parent
from cowtrace.workloads.forks import BEFORE, CHILD
from cowtrace.workloads.region import PAGE_BYTES
from cowtrace.workloads.unsupported import CannotHere
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writing_process import Actor

_SWAPPED = 1 << 62  # of a pagemap entry
_LEAST_BYTES = 16 << 20


@contextmanager
def _swap(pages: int) -> Iterator[None]:
    with settings.swap(max(_LEAST_BYTES, 4 * pages * PAGE_BYTES)):
        yield


@workload(
    # do_swap_page() reads the page in; another process still refers to its place in the swap, so
    # it goes on to do_wp_page(). On every kernel so far.
    lambda pages: (parent(), child(copied=pages)),
    frames=3,
    needs=_swap,
    group="swapped-out page",
    claim="a shared page that is swapped out is read back and copied when it is written",
    unseen_by={"tracepoint": "it takes the fault for a first touch: the page is not present"},
)
def swapped_out(me: Actor) -> None:
    """pages are swapped out, then fork; the child writes them: read back, then copied"""
    me.populate(BEFORE)
    calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_PAGEOUT)
    swapped = sum(bool(entry & _SWAPPED) for entry in pagemap.region_entries(me.region))
    if swapped != me.region.pages:
        raise CannotHere(f"the kernel swapped out {swapped} of {me.region.pages} pages")
    me.note("pagemap", "pages swapped out", me.region.pages, swapped)
    with me.fork() as other:
        other.do(_write)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)  # reads them in for the parent
        theirs = other.do(Actor.frames)
        differing = sum(map(int.__ne__, me.frames(), theirs))
        me.note("pagemap", "child: frames that are not the parent's", me.region.pages, differing)


def _write(me: Actor) -> None:
    me.write(CHILD)
    me.cannot_tell(copied=None)  # the page had no frame before
