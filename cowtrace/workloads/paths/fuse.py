"""Write private mappings of a file that a process serves by FUSE, around a fork."""

from __future__ import annotations

from functools import partial

from cowtrace.model import Source
from cowtrace.workloads import fuse_file
from cowtrace.workloads.outcome import child, copied, parent
from cowtrace.workloads.region import FILE_BYTE, Backing, Region, map_over
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, Writer

_fuse = partial(workload, group="FUSE")


@_fuse(
    lambda pages: (parent(), child(file_copied=pages)),
    claim="the first write to a private page that FUSE must read is one copy, though it waits",
)
def fuse_first_write(me: Writer) -> None:
    """a child writes a private FUSE mapping that was not read: copied, each read once"""
    with fuse_file.mounted(me.region.pages) as served:
        me.region = map_over(me.region, Backing.PRIVATE_FILE, file=served.file)
        with me.fork() as other:
            other.do(write_backwards, CHILD)
            me.note("FUSE", "pages that its server was asked for", me.region.pages, served.reads())
            other.do(Writer.expect, CHILD)
        me.expect_that(me.region.load_from_file() == {FILE_BYTE})


@_fuse(
    lambda pages: (parent(), child(copied(pages, Source.FILE))),
    claim="a write to a private FUSE page that was read copies the page that FUSE's cache has",
)
def fuse_read_then_write(me: Writer) -> None:
    """a child reads a private FUSE mapping, then writes it: copied, each read once"""
    with fuse_file.mounted(me.region.pages) as served:
        me.region = map_over(me.region, Backing.PRIVATE_FILE, file=served.file)
        with me.fork() as other:
            other.do(Writer.read)
            other.do(Writer.expect, FILE_BYTE)
            other.do(Writer.write, CHILD)
            me.note("FUSE", "pages that its server was asked for", me.region.pages, served.reads())
            other.do(Writer.expect, CHILD)
        me.expect_that(me.region.load_from_file() == {FILE_BYTE})


@_fuse(
    lambda pages: (parent(file_copied=pages), child(copied(pages))),
    frames=3,
    claim="private FUSE pages that were written before a fork are copied as anonymous memory",
)
def fuse_written_before_fork(me: Writer) -> None:
    """writes a private FUSE mapping (copied), forks; the child writes it: copied again"""
    with fuse_file.mounted(me.region.pages) as served:
        me.region = map_over(me.region, Backing.PRIVATE_FILE, file=served.file)
        write_backwards(me, BEFORE)
        with me.fork() as other:
            other.do(Writer.write, CHILD)
            me.note("FUSE", "pages that its server was asked for", me.region.pages, served.reads())
            other.do(Writer.expect, CHILD)
            me.expect(BEFORE)
        me.expect_that(me.region.load_from_file() == {FILE_BYTE})


def write_backwards(me: Writer, value: int) -> None:
    """The last page first: that fault finds no page table yet."""

    def write(region: Region) -> None:
        region.store_backwards(value)

    me.act(write)
