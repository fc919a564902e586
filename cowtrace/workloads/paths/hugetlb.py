"""Workloads on hugetlb pages: copied whole, from a pool that can be empty."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads import settings
from cowtrace.workloads.counts import ExpectedRow
from cowtrace.workloads.expectations import child, copied, parent
from cowtrace.workloads.forks import BEFORE, CHILD, PARENT
from cowtrace.workloads.region import GIGANTIC_BYTES, HUGE_BYTES, Backing
from cowtrace.workloads.unsupported import CannotHere
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writing_process import Actor

_UNSEEN = {"tracepoint": "it does not see huge pages: their copies count as reused"}
# Huge pages at most, whatever was asked for: 46 MiB on x86-64; 160 MiB where they have 32 MiB.
_MANY = 23 if HUGE_BYTES <= 2 << 20 else 5


def _pool(pages_for_each: int) -> Callable[[int], AbstractContextManager[None]]:
    """A pool with so many free huge pages for each of the region, and none beyond."""

    @contextmanager
    def pool(pages: int) -> Iterator[None]:
        wanted = pages * pages_for_each
        reserved = int(_pool_setting(HUGE_BYTES, "resv_hugepages"))
        used = int(_pool_setting(HUGE_BYTES, "nr_hugepages")) - _free(HUGE_BYTES)
        folder = _folder(HUGE_BYTES)
        values = {
            f"{folder}/nr_overcommit_hugepages": "0",
            f"{folder}/nr_hugepages": str(used + reserved + wanted),
        }
        with settings.changed(values):
            got = _free(HUGE_BYTES) - reserved
            if got != wanted:
                raise CannotHere(f"no pool of {wanted} huge pages can be had: {got} are free")
            yield

    return pool


@contextmanager
def _gigantic_pool(pages: int) -> Iterator[None]:
    """Two pages for each, set aside before: to gather them takes a running system a long time."""
    if _free(GIGANTIC_BYTES) < 2 * pages:
        size = f"{_folder(GIGANTIC_BYTES)}/nr_hugepages"
        raise CannotHere(
            f"no pool of {2 * pages} pages of {GIGANTIC_BYTES >> 30} GiB is set aside",
            hint=f"with memory to spare: echo {2 * pages} > {size}",
        )
    yield


def _free(page_bytes: int) -> int:
    return int(_pool_setting(page_bytes, "free_hugepages"))


def _pool_setting(page_bytes: int, name: str) -> str:
    return settings.read(f"{_folder(page_bytes)}/{name}")


def _folder(page_bytes: int) -> str:
    return f"/sys/kernel/mm/hugepages/hugepages-{page_bytes >> 10}kB"


def _copies_whole(size: str) -> str:
    return f"a write to a shared hugetlb page of {size} copies the whole huge page"


def _copied(pages: int, page_bytes: int = HUGE_BYTES) -> ExpectedRow:
    return copied(pages, Source.HUGETLB, page_bytes=page_bytes)


def _reused(pages: int) -> ExpectedRow:
    return ExpectedRow(FaultKind.REUSED, Source.HUGETLB, Origin.USER, pages, 0)


@workload(
    lambda pages: (parent(_reused(pages)), child(_copied(pages))),
    backing=Backing.HUGETLB,
    most=_MANY,
    needs=_pool(2),
    group="hugetlb",
    claim=_copies_whole(f"{HUGE_BYTES >> 20} MiB"),
    unseen_by=_UNSEEN,
)
def hugetlb_both_write(me: Actor) -> None:
    """the child writes a byte of each huge page: copied whole; the parent: reused"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Actor.write, CHILD)
        me.write(PARENT)
        other.do(Actor.expect, CHILD)
        me.expect(PARENT)


@workload(
    lambda pages: (parent(), child(_copied(pages, GIGANTIC_BYTES))),
    backing=Backing.HUGETLB_1G,
    most=1,
    needs=_gigantic_pool,
    group="hugetlb",
    claim=_copies_whole(f"{GIGANTIC_BYTES >> 30} GiB"),
    unseen_by=_UNSEEN,
)
def hugetlb_gigantic(me: Actor) -> None:
    """the child writes a byte of one page of 1 GiB: copied whole"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Actor.write, CHILD)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)


@workload(
    lambda pages: (
        parent(),
        child(ExpectedRow(FaultKind.FAILED, Source.HUGETLB, Origin.USER, 1, 0)),
    ),
    backing=Backing.HUGETLB,
    frames=1,
    most=_MANY,
    needs=_pool(1),
    group="failed copy",
    claim="a child that must copy a hugetlb page from an empty pool is killed by SIGBUS",
    unseen_by=_UNSEEN,
)
def hugetlb_empty_pool(me: Actor) -> None:
    """the pool has no page left when the child writes: the copy fails, SIGBUS"""
    me.populate(BEFORE)
    killed_by = me.victim(lambda region: region.store(CHILD), before=lambda pid: None)
    me.note("data", "child: killed by signal", int(signal.SIGBUS), killed_by)
    me.expect(BEFORE)
