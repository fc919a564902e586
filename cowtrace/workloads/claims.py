"""Check claims about fork and its pages that need evidence of their own."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from cowtrace.workloads.oracles.proc_files import smaps_sizes
from cowtrace.workloads.outcome import Evidence, child, expected, parent
from cowtrace.workloads.region import PAGE_BYTES, Region
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_AT_PAGESZ = 6  # include/uapi/linux/auxvec.h


@workload(
    lambda pages: (parent(copied=pages), child(copied=pages), expected("sibling")),
    frames=3,
    group="C1",
    claim="after fork all processes share one frame a page, write-protected in each",
)
def fork_protects(me: Writer) -> None:
    """frames are compared after two forks; then the parent and a child write: copied"""
    me.populate(BEFORE)
    mine = me.frames()
    # The sibling keeps every page shared while it is written.
    with me.fork() as other, me.fork("sibling") as holder:
        me.note_frames("frames that are the child's too:", mine, other.do(Writer.frames))
        me.note_frames("frames that the parent keeps:", mine, me.frames())
        me.write(PARENT)
        other.do(Writer.write, CHILD)
        me.expect(PARENT)
        other.do(Writer.expect, CHILD)
        holder.do(Writer.expect, BEFORE)


@workload(
    lambda pages: (parent(), child(copied=1)),
    group="C2",
    claim="one byte written copies its page and no other page of the mapping",
)
def one_page_of_many(me: Writer) -> None:
    """the child writes one byte of one page: only that page is copied, with its bytes"""
    me.populate(BEFORE)
    me.region.fill(BEFORE)
    with me.fork() as other:
        other.do(Writer.write_pages, CHILD, range(1))
        kept = other.do(_count_in_first_page, BEFORE)
        me.note("data", "child: bytes kept of that page:", PAGE_BYTES - 1, kept)
        me.expect(BEFORE)


@workload(
    lambda pages: (parent(), child(copied=pages)),
    group="C3",
    claim="a copied page has the architecture's page size; larger page sizes exist",
)
def page_sizes(me: Writer) -> None:
    """the child writes the first and the last byte of every page: one copy a page"""
    me.child_writes(_write_both_ends, CHILD)
    size = os.sysconf("SC_PAGESIZE")
    me.note("/proc/self/auxv", "AT_PAGESZ, sysconf's page size:", size, _auxv_size())
    mapped = smaps_sizes(me.region.start, me.region.size_bytes).get("KernelPageSize")
    mapped = mapped and mapped // 1024
    me.note("smaps", "KernelPageSize of the memory, in kB:", size // 1024, mapped)
    me.evidence.append(_larger_sizes())


@workload(
    lambda pages: (parent(), child(copied=pages)),
    group="C5",
    claim="the copy is a new frame mapped read/write: the next write does not fault",
)
def write_twice(me: Writer) -> None:
    """the child writes every page (copied), then once more: no fault, the same frames"""
    me.populate(BEFORE)
    mine = me.frames()
    with me.fork() as other:
        other.do(Writer.write, CHILD)
        copies = other.do(Writer.frames)
        kept = sum(one == new for one, new in zip(mine, copies, strict=True))
        me.note("pagemap", "child: copies in the parent's frames:", 0, kept)
        faults = other.do(Writer.faults_of_write, CHILD + 1)
        me.note_of_thread("rusage", "child: faults of the second write:", 0, faults)
        me.note_frames("child's frames kept by the second write:", copies, other.do(Writer.frames))
        other.do(Writer.expect, CHILD + 1)
        me.expect(BEFORE)


@workload(
    lambda pages: (parent(copied=pages), child(reused=pages)),
    group="C6",
    claim="after the parent has copied, the child's write only re-marks the page writable",
)
def fork_both_write_parent_first(me: Writer) -> None:
    """the parent writes (copied), then the child, by now the only holder: re-marked"""
    me.populate(BEFORE)
    with me.fork() as other:
        me.write(PARENT)
        other.do(Writer.write, CHILD)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)


@workload(
    lambda pages: (parent(reused=pages), child()),
    group="exclusive page",
    claim="a page that the kernel allocates after a re-mark is not counted as a copy",
)
def reuse_then_allocate(me: Writer) -> None:
    """as parent-after-child-exit; after each write a system call allocates a page"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Writer.expect, BEFORE)
    file = os.memfd_create("cowtrace")

    def write(region: Region) -> None:
        os.ftruncate(file, 0)
        for page in range(region.pages):
            region.view[page * PAGE_BYTES] = PARENT
            os.pwrite(file, b"x", page * PAGE_BYTES)

    me.act(write)
    os.close(file)
    me.expect(PARENT)


def _count_in_first_page(me: Writer, value: int) -> int:
    return bytes(me.region.view[:PAGE_BYTES]).count(value)


def _write_both_ends(me: Writer, value: int) -> None:
    def write(region: Region) -> None:
        region.store(value)
        region.view[PAGE_BYTES - 1 :: PAGE_BYTES] = bytes([value]) * region.pages

    me.act(write)


def _auxv_size() -> int | None:
    """The page size that the kernel passed to this program."""
    pairs = struct.iter_unpack("@LL", Path("/proc/self/auxv").read_bytes())
    return next((value for kind, value in pairs if kind == _AT_PAGESZ), None)


def _larger_sizes() -> Evidence:
    folder = Path("/sys/kernel/mm/hugepages")
    names = (path.name for path in folder.glob("hugepages-*kB"))
    sizes = sorted(int(name.removeprefix("hugepages-").removesuffix("kB")) for name in names)
    if not sizes:
        return Evidence(str(folder), "this kernel has no hugetlb pages", None, None, None)
    shown = ", ".join(f"{size:,} kB" for size in sizes)
    return Evidence(str(folder), "sizes of hugetlb pages:", "one at least", shown, True)
