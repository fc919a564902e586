"""Write private mappings of a file that a process serves by FUSE, around a fork."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from cowtrace.model import Source
from cowtrace.workloads import fuse_file
from cowtrace.workloads.mappings import write_backwards
from cowtrace.workloads.outcome import child, copied, parent
from cowtrace.workloads.region import FILE_BYTE, Backing, map_over
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, Writer

_fuse = partial(workload, group="FUSE")


@contextmanager
def mapped(me: Writer) -> Iterator[Callable[[], None]]:
    """Map a FUSE file privately in place of the region; at the end, check that it is unchanged.

    The block gets a function that notes whether the server read each page once.
    """
    pages = me.region.pages
    with fuse_file.mounted(pages) as served:
        me.region = map_over(me.region, Backing.PRIVATE_FILE, file=served.file)
        yield lambda: me.note("FUSE", "pages that its server was asked for", pages, served.reads())
        me.expect_that(me.region.load_from_file() == {FILE_BYTE})


@_fuse(
    lambda pages: (parent(), child(file_copied=pages)),
    claim="the first write to a private page of a FUSE file waits for the server, and is one copy",
)
def fuse_first_write(me: Writer) -> None:
    """a child writes a private FUSE mapping that was not read: copied, each read once"""
    with mapped(me) as note_reads, me.fork() as other:
        other.do(write_backwards, CHILD)
        note_reads()
        other.do(Writer.expect, CHILD)


@_fuse(
    lambda pages: (parent(), child(copied(pages, Source.FILE))),
    claim="a write to a private page of a FUSE file that was read copies the page cache's page",
)
def fuse_read_then_write(me: Writer) -> None:
    """a child reads a private FUSE mapping, then writes it: copied, each read once"""
    with mapped(me) as note_reads, me.fork() as other:
        other.do(Writer.read)
        other.do(Writer.expect, FILE_BYTE)
        other.do(Writer.write, CHILD)
        note_reads()
        other.do(Writer.expect, CHILD)


@_fuse(
    lambda pages: (parent(file_copied=pages), child(copied(pages))),
    frames=3,
    claim="private pages of a FUSE file that were written before fork are copied as anonymous",
)
def fuse_written_before_fork(me: Writer) -> None:
    """writes a private FUSE mapping (copied), forks; the child writes it: copied again"""
    with mapped(me) as note_reads:
        write_backwards(me, BEFORE)
        with me.fork() as other:
            other.do(Writer.write, CHILD)
            note_reads()
            other.do(Writer.expect, CHILD)
            me.expect(BEFORE)
