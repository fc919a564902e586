"""Give pages to a pipe by vmsplice(2), which takes references to them and copies nothing."""

from __future__ import annotations

import fcntl
import os
from functools import partial

from cowtrace.workloads import calls
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.region import PAGE_BYTES
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_F_SETPIPE_SZ = 1031
_MOST_PAGES = 251  # a prime: fewer than the 1 MiB that each user's pipe may have

_vmsplice = partial(workload, most=_MOST_PAGES, group="vmsplice")
# The last writer copies as well: for the pipe, too, holds the page.
_both_copy = partial(
    _vmsplice,
    lambda pages: (parent(copied=pages), child(copied=pages)),
    frames=3,
)


@_vmsplice(
    lambda pages: (parent(),),
    frames=1,
    claim="without a fork, a page that vmsplice gave to a pipe is written in place: no copy",
)
def vmsplice_alone(me: Writer) -> None:
    """gives its pages to a pipe, writes them: no fault, the pipe has what was written"""
    me.populate(BEFORE)
    pipe = _into_pipe(me, 0)
    me.write(PARENT, protected=False)
    me.expect(PARENT)
    _note_in_pipe(me, PARENT, _from_pipe(me, pipe))


@_both_copy(
    claim="after a fork, both sides copy a page that vmsplice gave to a pipe: the pipe holds it"
)
def vmsplice_before_fork(me: Writer) -> None:
    """the parent gives its pages to a pipe, then forks; both sides write: both copy"""
    _before_fork(me, 0)


@_both_copy(claim="pages given away with SPLICE_F_GIFT before a fork are copied by both sides, too")
def vmsplice_gift_before_fork(me: Writer) -> None:
    """as vmsplice-before-fork, and the pages are a gift (SPLICE_F_GIFT): both copy"""
    _before_fork(me, calls.SPLICE_F_GIFT)


def _before_fork(me: Writer, flags: int) -> None:
    me.populate(BEFORE)
    pipe = _into_pipe(me, flags)
    with me.fork() as other:
        other.do(Writer.write, CHILD)
        me.write(PARENT)
        _note_in_pipe(me, BEFORE, _from_pipe(me, pipe))
        me.expect(PARENT)
        other.do(Writer.expect, CHILD)


@_both_copy(
    claim="vmsplice of a page that fork made shared copies nothing; later, both sides copy it"
)
def vmsplice_after_fork(me: Writer) -> None:
    """the child gives shared pages to a pipe, writes, then the parent: both copy"""
    _after_fork(me, 0)


@_both_copy(claim="shared pages given away with SPLICE_F_GIFT are copied by both sides, too")
def vmsplice_gift_after_fork(me: Writer) -> None:
    """as vmsplice-after-fork, and the pages are a gift (SPLICE_F_GIFT): both copy"""
    _after_fork(me, calls.SPLICE_F_GIFT)


def _after_fork(me: Writer, flags: int) -> None:
    me.populate(BEFORE)
    with me.fork() as other:
        pipe = other.do(_into_pipe, flags)
        me.note_frames("frames that are the child's too", me.frames(), other.do(Writer.frames))
        other.do(Writer.write, CHILD)
        me.write(PARENT)
        _note_in_pipe(me, BEFORE, other.do(_from_pipe, pipe))
        me.expect(PARENT)
        other.do(Writer.expect, CHILD)


def _into_pipe(me: Writer, flags: int) -> tuple[int, int]:
    """A pipe that holds the region's pages: its ends for reading and for writing."""
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, _F_SETPIPE_SZ, me.region.size_bytes)
    except PermissionError as error:
        raise Unsupported("a pipe may not be as large: /proc/sys/fs/pipe-max-size") from error
    calls.vmsplice(writing, me.region.start, me.region.size_bytes, flags)
    return reading, writing


def _from_pipe(me: Writer, pipe: tuple[int, int]) -> list[int]:
    """The values that pages in the pipe begin with; closes the pipe."""
    reading, writing = pipe
    os.set_blocking(reading, False)  # the other process may hold the end for writing, too
    values = {*os.read(reading, me.region.size_bytes)[::PAGE_BYTES]}
    os.close(reading)
    os.close(writing)
    return sorted(values)


def _note_in_pipe(me: Writer, expected: int, seen: list[int]) -> None:
    me.note("data", "pipe: value in its pages", str([expected]), str(seen))
