"""Workloads for what is said about fork and its pages, with evidence of their own."""

from __future__ import annotations

import os
import re
import struct
from array import array
from pathlib import Path

from cowtrace.workloads import pagemap
from cowtrace.workloads.counts import Evidence, Expected
from cowtrace.workloads.expectations import child, parent
from cowtrace.workloads.forks import BEFORE, CHILD, PARENT
from cowtrace.workloads.oracles.writes import Writes
from cowtrace.workloads.region import PAGE_BYTES, REGION_START, Region
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writing_process import Actor

_AT_PAGESZ = 6  # include/uapi/linux/auxvec.h


@workload(
    lambda pages: (
        parent(copied=pages),
        child(copied=pages),
        Expected(role="sibling"),
    ),
    frames=3,
    group="C1",
    claim="fork leaves one frame a page to all sides, and write-protects it in each",
)
def fork_protects(me: Actor) -> None:
    """frames are compared after two forks; then parent and one child write, and fault"""
    me.populate(BEFORE)
    mine = _frames(me)
    with me.fork() as other, me.fork("sibling") as holder:  # so that all that is written is shared
        _compare(me, "frames that are the child's too:", mine, other.do(_frames))
        _compare(me, "frames that the parent keeps:", mine, _frames(me))
        me.write(PARENT)
        other.do(Actor.write, CHILD)
        me.expect(PARENT)
        other.do(Actor.expect, CHILD)
        holder.do(Actor.expect, BEFORE)


@workload(
    lambda pages: (parent(), child(copied=1)),
    group="C2",
    claim="one byte written copies its page and no other page of the mapping",
)
def one_page_of_many(me: Actor) -> None:
    """the child writes one byte of one page: it alone is copied, other bytes kept"""
    me.populate(BEFORE)
    me.region.fill(BEFORE)
    with me.fork() as other:
        other.do(_write_first_byte, CHILD)
        kept = other.do(_count_in_first_page, BEFORE)
        me.evidence.append(_same("data", "child: bytes kept of that page:", PAGE_BYTES - 1, kept))
        me.expect(BEFORE)


@workload(
    lambda pages: (parent(), child(copied=pages)),
    group="C3",
    claim="the page that is copied has the architecture's size, and there are larger ones",
)
def page_sizes(me: Actor) -> None:
    """the child writes the first and the last byte of every page: one copy a page"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(_write_both_ends, CHILD)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)
    size = os.sysconf("SC_PAGESIZE")
    me.evidence.append(
        _same("/proc/self/auxv", "AT_PAGESZ, sysconf's page size:", size, _auxv_size())
    )
    me.evidence.append(
        _same("smaps", "KernelPageSize of the memory, in kB:", size // 1024, _smaps_size())
    )
    me.evidence.append(_larger_sizes())


@workload(
    lambda pages: (parent(), child(copied=pages)),
    group="C5",
    claim="the copy is a new frame mapped read/write: the next write does not fault",
)
def write_twice(me: Actor) -> None:
    """the child writes every page (copied), then once more: no fault, the same frames"""
    me.populate(BEFORE)
    mine = _frames(me)
    with me.fork() as other:
        other.do(Actor.write, CHILD)
        copies = other.do(_frames)
        kept = sum(one == new for one, new in zip(mine, copies, strict=True))
        me.evidence.append(_same("pagemap", "child: copies in the parent's frames:", 0, kept))
        faults = other.do(_faults_of_a_write, CHILD + 1)
        me.note_of_thread("rusage", "child: faults of the second write:", 0, faults)
        _compare(me, "child's frames kept by the second write:", copies, other.do(_frames))
        other.do(Actor.expect, CHILD + 1)
        me.expect(BEFORE)


@workload(
    lambda pages: (parent(copied=pages), child(reused=pages)),
    group="C6",
    claim="after the parent has copied, the child's write only re-marks the page writable",
)
def fork_both_write_parent_first(me: Actor) -> None:
    """the parent writes (copied), then the child, which no one shares with any more"""
    me.populate(BEFORE)
    with me.fork() as other:
        me.write(PARENT)
        other.do(Actor.write, CHILD)
        other.do(Actor.expect, CHILD)
        me.expect(PARENT)


@workload(
    lambda pages: (parent(reused=pages), child()),
    group="exclusive page",
    claim="what the kernel allocates after a page was only re-marked is no copy of it",
)
def reuse_then_allocate(me: Actor) -> None:
    """as parent-after-child-exit; after each write a call makes a page of a file"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Actor.expect, BEFORE)
    file = os.memfd_create("cowtrace")

    def write(region: Region) -> None:
        os.ftruncate(file, 0)
        for page in range(region.pages):
            region.view[page * PAGE_BYTES] = PARENT
            os.pwrite(file, b"x", page * PAGE_BYTES)

    me.act(write)
    os.close(file)
    me.expect(PARENT)


def _frames(me: Actor) -> array[int]:
    return array("Q", (pagemap.frame(entry) for entry in pagemap.region_entries(me.region)))


def _compare(me: Actor, what: str, one: array[int], other: array[int]) -> None:
    """Evidence that two readings have the same frames, unless these are hidden."""
    if not all(one):
        me.evidence.append(Evidence("pagemap", f"{what}: hidden", None, None, None))
        return
    alike = sum(a == b for a, b in zip(one, other, strict=True))
    me.evidence.append(_same("pagemap", what, len(one), alike))


def _same(oracle: str, what: str, expected: int, observed: int | None) -> Evidence:
    ok = None if observed is None else observed == expected
    return Evidence(oracle, what, expected, observed, ok)


def _write_first_byte(me: Actor, value: int) -> None:
    me.act(lambda region: region.view.__setitem__(0, value), every_page=False)


def _count_in_first_page(me: Actor, value: int) -> int:
    return bytes(me.region.view[:PAGE_BYTES]).count(value)


def _write_both_ends(me: Actor, value: int) -> None:
    def write(region: Region) -> None:
        region.store(value)
        region.view[PAGE_BYTES - 1 :: PAGE_BYTES] = bytes([value]) * region.pages

    me.act(write)


def _faults_of_a_write(me: Actor, value: int) -> int | None:
    """Page faults while every page is written; None when they cannot be told from others."""
    writes = Writes()
    writes.count(lambda region: region.store(value), me.region)
    return writes.page_faults


def _auxv_size() -> int | None:
    """What the kernel told this program when it started it."""
    pairs = struct.iter_unpack("@LL", Path("/proc/self/auxv").read_bytes())
    return next((value for kind, value in pairs if kind == _AT_PAGESZ), None)


def _smaps_size() -> int | None:
    """KernelPageSize of the region's mapping, in kB."""
    mapping = re.search(
        rf"^{REGION_START:x}-.*?^KernelPageSize: +(\d+) kB",
        Path("/proc/self/smaps").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    return int(mapping[1]) if mapping else None


def _larger_sizes() -> Evidence:
    folder = Path("/sys/kernel/mm/hugepages")
    names = folder.glob("hugepages-*kB") if folder.is_dir() else iter(())
    sizes = sorted(int(path.name.removeprefix("hugepages-").removesuffix("kB")) for path in names)
    if not sizes:
        return Evidence(str(folder), "this kernel has no hugetlb pages", None, None, None)
    shown = ", ".join(f"{size:,} kB" for size in sizes)
    return Evidence(str(folder), "sizes of hugetlb pages:", "one at least", shown, True)
