"""Write other kinds of mapping: the zero page, shared memory, private files."""

from __future__ import annotations

from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.region import FILE_BYTE, Backing
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer


@workload(
    lambda pages: (parent(zero_filled=pages),),
    frames=1,
    group="zero page",
    claim="the first write to untouched memory that was read fills a fresh page: no copy",
)
def zero_page(me: Writer) -> None:
    """reads untouched memory, then writes it: fresh pages of zeroes, nothing is copied"""
    me.read()
    me.expect(0)
    me.write(PARENT)
    me.expect(PARENT)


# The parent's first touch is a write to a shared page too. Fork leaves its entries writable and
# gives the child none: the child's first write finds the page, the parent's later ones no fault.
@workload(
    lambda pages: (parent(shared=pages), child(shared=pages)),
    backing=Backing.SHARED_ANONYMOUS,
    frames=1,
    group="C7",
    claim="MAP_SHARED memory stays shared after fork: each process sees the other's writes",
)
def shared_writes(me: Writer) -> None:
    """parent and child write MAP_SHARED memory, each sees the other's: no copy"""
    me.write(BEFORE)
    with me.fork() as other:
        other.do(Writer.write, CHILD)
        me.expect(CHILD)
        me.write(PARENT)
        other.do(Writer.expect, PARENT)


def write_backwards(me: Writer, value: int) -> None:
    """Write every page, the last one first: that fault finds no page table yet."""
    me.act(lambda region: region.store_pages(value, reversed(range(region.pages))))


@workload(
    lambda pages: (parent(), child(file_copied=pages)),
    backing=Backing.PRIVATE_FILE,
    group="C8",
    claim="the first write to a private file page copies it; the file stays as it was",
)
def private_file_first_write(me: Writer) -> None:
    """writes a private file mapping that was never read: copied from the file"""
    with me.fork() as other:
        other.do(write_backwards, CHILD)
        other.do(Writer.expect, CHILD)
        me.expect_that(me.region.load_from_file() == {FILE_BYTE})


@workload(
    lambda pages: (parent(), child(copied=pages)),
    backing=Backing.PRIVATE_FILE,
    group="C8",
    claim="a write to a private file page that was read copies it; the file stays as it was",
)
def private_file_read_then_write(me: Writer) -> None:
    """reads a private file mapping, then writes it: the file's pages are copied"""
    with me.fork() as other:
        other.do(Writer.read)
        other.do(Writer.expect, FILE_BYTE)
        other.do(Writer.write, CHILD)
        other.do(Writer.expect, CHILD)
        me.expect_that(me.region.load_from_file() == {FILE_BYTE})
