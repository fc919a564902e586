"""Write pages that are swapped out."""

from __future__ import annotations

from cowtrace.workloads import calls, pagemap, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.region import PAGE_BYTES
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, Writer

_SWAPPED = 1 << 62  # of a pagemap entry
_LEAST_BYTES = 16 << 20


@workload(
    # do_swap_page() reads the page in; another process still refers to its swap slot, so it calls
    # do_wp_page(). On every kernel so far.
    lambda pages: (parent(), child(copied=pages)),
    frames=3,
    needs=lambda pages: settings.swap(max(_LEAST_BYTES, 4 * pages * PAGE_BYTES)),
    group="swapped-out page",
    claim="a shared page that is swapped out is read back and copied when it is written",
    unseen_by={"tracepoint": "it counts the fault as a first touch: the page is not present"},
)
def swapped_out(me: Writer) -> None:
    """pages are swapped out, then fork; the child writes them: read back, then copied"""
    me.populate(BEFORE)
    calls.madvise(me.region.start, me.region.size_bytes, calls.MADV_PAGEOUT)
    swapped = sum(bool(entry & _SWAPPED) for entry in pagemap.region_entries(me.region))
    if swapped != me.region.pages:
        raise Unsupported(f"the kernel swapped out {swapped} of {me.region.pages} pages")
    me.note("pagemap", "pages swapped out", me.region.pages, swapped)
    with me.fork() as other:
        other.do(_write)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)  # reads them in for the parent
        theirs = other.do(Writer.frames)
        me.note_frames("child: frames that are not the parent's", me.frames(), theirs, differ=True)


def _write(me: Writer) -> None:
    me.write(CHILD)
    me.frames_cannot_show("copied")  # the page had no frame before
