"""Advise the kernel, by madvise or mmap, what a fork does with memory, or what may be touched."""

from __future__ import annotations

import mmap
import signal
from functools import partial

from cowtrace.workloads import calls, pagemap
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.proc_files import smaps_sizes
from cowtrace.workloads.outcome import Expected, child, expected, parent
from cowtrace.workloads.region import PAGE_BYTES, Backing, Region, map_over
from cowtrace.workloads.stepped_child import run_victim
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_MAP_DROPPABLE = 0x08  # in place of MAP_PRIVATE

_advice = partial(workload, group="madvise")


def _advise(me: Writer, advice: int) -> None:
    calls.madvise(me.region.start, me.region.size_bytes, advice)


@_advice(
    lambda pages: (parent(), child()),
    frames=1,
    claim="MADV_DONTFORK: the child does not have the memory, the parent's writes do not fault",
)
def madv_dontfork(me: Writer) -> None:
    """MADV_DONTFORK: the parent writes beside a child; a child that writes is killed"""
    me.populate(BEFORE)
    _advise(me, calls.MADV_DONTFORK)
    with me.fork() as other:
        me.note("smaps", "child: bytes mapped there", 0, other.do(_mapped_bytes))
        me.write(PARENT, protected=False)
    killed_by = me.victim_writes()
    me.note("data", "child that writes: killed by signal", int(signal.SIGSEGV), killed_by)
    me.expect(PARENT)


def _mapped_bytes(me: Writer) -> int:
    return smaps_sizes(me.region.start, me.region.size_bytes).get("Size", 0)


@_advice(
    lambda pages: (parent(), child(copied=pages)),
    claim="MADV_DOFORK undoes MADV_DONTFORK: the child shares the memory, its writes copy",
)
def madv_dofork(me: Writer) -> None:
    """MADV_DONTFORK, then MADV_DOFORK; the child writes every page: each is copied"""
    _advise(me, calls.MADV_DONTFORK)
    _advise(me, calls.MADV_DOFORK)
    me.child_writes(Writer.write, CHILD)


def _emptied(pages: int) -> tuple[Expected, ...]:
    return (parent(), child(zero_filled=pages))


@_advice(
    _emptied,
    claim="MADV_WIPEONFORK: a child finds zeroes, and nothing is copied on either side",
)
def madv_wipeonfork(me: Writer) -> None:
    """MADV_WIPEONFORK: the child reads zeroes and writes, then the parent: no copy"""
    _advise(me, calls.MADV_WIPEONFORK)
    _fork_empties(me)


@_advice(
    _emptied, claim="MAP_DROPPABLE memory is wiped by fork: a child finds zeroes, nothing is copied"
)
def map_droppable(me: Writer) -> None:
    """MAP_DROPPABLE: the child reads zeroes and writes, then the parent: no copy"""
    _map_droppable(me)
    _fork_empties(me)


def _fork_empties(me: Writer) -> None:
    """The parent's entries are not copied, so they stay writable."""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Writer.read)
        other.do(Writer.expect, 0)
        other.do(Writer.write, CHILD)
        me.write(PARENT, protected=False)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)


def _map_droppable(me: Writer) -> None:
    """Linux 6.11: "mm: add MAP_DROPPABLE for designating always lazily freeable mappings"."""
    try:
        me.region = map_over(
            me.region, Backing.ANONYMOUS, flags=_MAP_DROPPABLE | mmap.MAP_ANONYMOUS
        )
    except OSError as error:
        raise Unsupported("this kernel has no MAP_DROPPABLE, which came with 6.11") from error


@_advice(
    lambda pages: (parent(zero_filled=pages),),
    frames=1,
    claim="reclaim drops MAP_DROPPABLE memory, without swap: it reads as zeroes, no write copies",
)
def droppable_reclaimed(me: Writer) -> None:
    """written MAP_DROPPABLE pages are reclaimed, read and written: zeroes, no copy"""
    _map_droppable(me)
    me.populate(BEFORE)
    _advise(me, calls.MADV_PAGEOUT)
    kept = pagemap.pages_with(me.region, pagemap.PRESENT | pagemap.SWAPPED)
    me.note("pagemap", "pages kept or swapped out", 0, kept)
    me.read()
    me.expect(0)
    me.write(PARENT)
    me.expect(PARENT)


def _guarded(pages: int) -> tuple[Expected, ...]:
    behind = _behind_guards(pages)
    return (
        parent(),
        child(copied=pages - behind, zero_filled=behind),
        expected("victim"),
    )


def _behind_guards(pages: int) -> int:
    return pages // 3


@_advice(
    _guarded,
    least=3,
    claim="a child inherits guard regions: a write there copies nothing, SIGSEGV kills the child",
)
def guard_region(me: Writer) -> None:
    """guards on a third: a child that writes there is killed, one copies the rest"""
    me.populate(BEFORE)
    guards = _behind_guards(me.region.pages)
    try:
        calls.madvise(me.region.start, guards * PAGE_BYTES, calls.MADV_GUARD_INSTALL)
    except OSError as error:  # "mm: add PTE_MARKER_GUARD PTE marker" and others
        raise Unsupported("this kernel has no guard regions, which came with 6.13") from error
    with me.fork() as other:
        pid, killed_by = run_victim(partial(_write_first_page, me.region), lambda pid: None)
        me.add_process("victim", pid)
        me.note("data", "victim: killed by signal", int(signal.SIGSEGV), killed_by)
        other.do(Writer.write_pages, CHILD, range(guards, me.region.pages))
        _remove_guards(me, guards)
        other.do(_remove_guards, guards)
        other.do(Writer.write_pages, CHILD, range(guards))
        other.do(Writer.expect, CHILD)
        me.expect_pages(0, range(guards))


def _write_first_page(region: Region) -> None:
    region.view[0] = CHILD


def _remove_guards(me: Writer, guards: int) -> None:
    """What was behind them is gone: zeroes are read there."""
    calls.madvise(me.region.start, guards * PAGE_BYTES, calls.MADV_GUARD_REMOVE)
    me.expect_that(set(me.region.load()[:guards]) == {0})
