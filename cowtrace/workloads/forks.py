"""Write anonymous memory that fork made shared: which process writes, and in which order."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack

from cowtrace.workloads.outcome import child, expected, parent
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, GRANDCHILD, PARENT, Writer

THREADS = 4
CHILDREN = 16


@workload(
    lambda pages: (parent(), child(copied=pages)),
    group="C4",
    claim="a child's write to a page that it shares with its parent copies that page",
)
def fork_child_writes(me: Writer) -> None:
    """the child writes every page: each is copied"""
    me.child_writes(Writer.write, CHILD)


@workload(
    lambda pages: (parent(copied=pages), child()),
    group="C4",
    claim="a parent's write to a page that it shares with its child copies that page",
)
def fork_parent_writes(me: Writer) -> None:
    """the parent writes every page while the child shares it: each is copied"""
    me.populate(BEFORE)
    with me.fork() as other:
        me.write(PARENT)
        me.expect(PARENT)
        other.do(Writer.expect, BEFORE)


@workload(
    lambda pages: (parent(reused=pages), child(copied=pages)),
    group="C6",
    claim="after the child has copied, the parent's write only re-marks the page writable",
)
def fork_both_write(me: Writer) -> None:
    """the child writes (copied), then the parent, by now the only holder: re-marked"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Writer.write, CHILD)
        me.write(PARENT)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)


@workload(
    lambda pages: (parent(), child()),
    frames=1,
    group="C1",
    claim="fork copies no data: parent and child read the same page frames",
)
def fork_read_only(me: Writer) -> None:
    """parent and child only read: nothing is copied"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Writer.read)
        me.read()
        other.do(Writer.expect, BEFORE)
        me.expect(BEFORE)


@workload(
    lambda pages: (parent(reused=pages), child()),
    frames=1,
    group="exclusive page",
    claim="after the child has exited, the parent's write copies nothing",
)
def parent_after_child_exit(me: Writer) -> None:
    """the child exits without a write, then the parent writes: re-marked, not copied"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Writer.expect, BEFORE)
    me.write(PARENT)
    me.expect(PARENT)


@workload(
    lambda pages: (parent(), child(copied=pages)),
    group="C2",
    claim="one byte written copies one whole page",
)
def one_byte_per_page(me: Writer) -> None:
    """the child writes one byte of every page: whole pages are copied"""
    fork_child_writes(me)


@workload(
    lambda pages: (parent(), child(copied=pages)),
    group="C2",
    claim="a page written whole is one copy, as for one byte",
)
def whole_page(me: Writer) -> None:
    """the child writes all bytes of every page: as many copies as for one byte"""
    me.child_writes(Writer.write, CHILD, whole=True)


@workload(
    lambda pages: (parent(reused=pages), child(copied=pages), expected("grandchild", copied=pages)),
    frames=3,
    group="C4",
    claim="each generation that writes copies for itself; the last holder only re-marks",
)
def two_generations(me: Writer) -> None:
    """a grandchild, then the child write (both copied), then the parent (re-marked)"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(_second_generation)
        me.write(PARENT)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)


def _second_generation(me: Writer) -> None:
    with me.fork("grandchild") as other:
        other.do(Writer.write, GRANDCHILD)
        me.expect(BEFORE)
        me.write(CHILD)
        other.do(Writer.expect, GRANDCHILD)


@workload(
    lambda pages: (parent(), child(copied=pages)),
    races=True,
    group="threads",
    claim="threads that write one page at once make one copy",
)
def threads_race(me: Writer) -> None:
    """4 threads of the child write the same pages at once: each page is copied once"""
    me.child_writes(_race)


def _race(me: Writer) -> None:
    """Spread the threads over all CPUs: on one CPU they seldom meet in a page."""
    cpus = os.cpu_count() or 1
    start = threading.Barrier(THREADS + 1)

    def write(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        start.wait()
        me.region.fill(CHILD)

    threads = [threading.Thread(target=write, args=(n % cpus,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    with me.watch():
        start.wait()
        for thread in threads:
            thread.join()


@workload(
    lambda pages: (parent(), child(copied=pages)),
    frames=1 + CHILDREN,
    group="C4",
    claim="each of 16 children that write copies for itself",
)
def sixteen_children(me: Writer) -> None:
    """16 children, alive together, write every page: each has copies of its own"""
    me.populate(BEFORE)
    with ExitStack() as stack:
        others = [stack.enter_context(me.fork()) for _ in range(CHILDREN)]
        for value, other in enumerate(others, start=BEFORE + 1):
            other.do(Writer.write, value)
        for value, other in enumerate(others, start=BEFORE + 1):
            other.do(Writer.expect, value)
        me.expect(BEFORE)
