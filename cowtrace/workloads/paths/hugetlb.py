"""Write hugetlb pages, which are copied whole, from a pool that can be empty."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads import settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.forks import fork_both_write, fork_child_writes
from cowtrace.workloads.outcome import ExpectedRow, child, copied, parent, reused
from cowtrace.workloads.region import GIGANTIC_BYTES, HUGE_BYTES, Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, Writer

# Huge pages at most, whatever --pages says: 46 MiB on x86-64; 160 MiB where they have 32 MiB.
MOST_PAGES = 23 if HUGE_BYTES <= 2 << 20 else 5
_CLAIM = "a write to a shared hugetlb page of {} copies the whole huge page"
UNSEEN = {"tracepoint": "it does not see pages of hugetlb's own pool"}
_hugetlb = partial(
    workload,
    backing=Backing.HUGETLB,
    most=MOST_PAGES,
    group="hugetlb",
    unseen_by=UNSEEN,
)


@contextmanager
def pool(pages_for_each: int, pages: int, *, more: int = 0) -> Iterator[None]:
    """A pool of `pages_for_each` free huge pages for each page of the region, and `more`."""
    wanted = pages * pages_for_each + more
    reserved = _count(HUGE_BYTES, "resv_hugepages")
    used = _count(HUGE_BYTES, "nr_hugepages") - _count(HUGE_BYTES, "free_hugepages")
    values = {
        _file(HUGE_BYTES, "nr_overcommit_hugepages"): "0",
        _file(HUGE_BYTES, "nr_hugepages"): str(used + reserved + wanted),
    }
    with settings.changed(values):
        got = _count(HUGE_BYTES, "free_hugepages") - reserved
        if got != wanted:
            raise Unsupported(f"there is no pool of {wanted} huge pages: {got} are free")
        yield


@contextmanager
def _gigantic_pool(pages: int) -> Iterator[None]:
    """Require two free pages for each: a running system gathers them only slowly."""
    if _count(GIGANTIC_BYTES, "free_hugepages") < 2 * pages:
        size = _file(GIGANTIC_BYTES, "nr_hugepages")
        raise Unsupported(
            f"no pool of {2 * pages} pages of {GIGANTIC_BYTES >> 30} GiB is reserved",
            hint=f"with memory to spare: echo {2 * pages} > {size}",
        )
    yield


def _count(page_bytes: int, name: str) -> int:
    return int(settings.read(_file(page_bytes, name)))


def _file(page_bytes: int, name: str) -> str:
    return f"/sys/kernel/mm/hugepages/hugepages-{page_bytes >> 10}kB/{name}"


def copied_whole(pages: int, page_bytes: int = HUGE_BYTES) -> ExpectedRow:
    return copied(pages, Source.HUGETLB, page_bytes=page_bytes)


@_hugetlb(
    lambda pages: (parent(reused(pages, Source.HUGETLB)), child(copied_whole(pages))),
    needs=partial(pool, 2),
    claim=_CLAIM.format(f"{HUGE_BYTES >> 20} MiB"),
)
def hugetlb_both_write(me: Writer) -> None:
    """the child writes a byte of each huge page: copied whole; the parent: reused"""
    fork_both_write(me)


@_hugetlb(
    lambda pages: (parent(), child(copied_whole(pages, GIGANTIC_BYTES))),
    backing=Backing.HUGETLB_1G,
    most=1,
    needs=_gigantic_pool,
    claim=_CLAIM.format(f"{GIGANTIC_BYTES >> 30} GiB"),
)
def hugetlb_gigantic(me: Writer) -> None:
    """the child writes a byte of one page of 1 GiB: copied whole"""
    fork_child_writes(me)


@_hugetlb(
    lambda pages: (
        parent(),
        child(ExpectedRow(FaultKind.FAILED, Source.HUGETLB, Origin.USER, 1, 0)),
    ),
    frames=1,
    needs=partial(pool, 1),
    group="failed copy",
    claim="a child that must copy a hugetlb page from an empty pool is killed by SIGBUS",
)
def hugetlb_empty_pool(me: Writer) -> None:
    """the pool has no free page when the child writes: the copy fails, SIGBUS"""
    me.populate(BEFORE)
    killed_by = me.victim_writes()
    me.note("data", "child: killed by signal", int(signal.SIGBUS), killed_by)
    me.expect(BEFORE)
