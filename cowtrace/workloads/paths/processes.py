"""Write from processes or threads that share a whole mm: no page is write-protected."""

from __future__ import annotations

import mmap
import os
import threading
from functools import partial

from cowtrace.workloads import calls
from cowtrace.workloads.forks import THREADS
from cowtrace.workloads.outcome import Expected, expected, parent
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, PARENT, Writer

_PROCESSES = 5  # a prime
_shared_mm = partial(workload, frames=1, group="shared mm")


def _clones_expected(pages: int) -> tuple[Expected, ...]:
    return (parent(), *(expected(f"clone-{n}") for n in range(1, _PROCESSES + 1)))


@_shared_mm(
    _clones_expected,
    claim="a vfork child writes the parent's own pages: no copy, and none afterwards",
)
def vfork_writes(me: Writer) -> None:
    """5 vfork children write a page each, then the parent all: no fault, no copy"""
    _clones(me, calls.CLONE_VM | calls.CLONE_VFORK)


@_shared_mm(
    _clones_expected, claim="a process cloned with CLONE_VM writes the parent's own pages: no copy"
)
def clone_vm_writes(me: Writer) -> None:
    """5 processes of clone(CLONE_VM) write a page each, then the parent all: no copy"""
    _clones(me, calls.CLONE_VM)


def _clones(me: Writer, flags: int) -> None:
    me.populate(BEFORE)
    frames = me.frames()
    for n in range(1, _PROCESSES + 1):
        page = n % me.region.pages
        pid = calls.clone_calling_time(me.region.addresses[page], flags)
        me.add_process(f"clone-{n}", pid)
        me.expect_that(any(me.region.view[page * mmap.PAGESIZE :][:8]))
    me.note_frames("frames kept", frames, me.frames())
    me.write(PARENT, protected=False)
    me.expect(PARENT)


@_shared_mm(
    lambda pages: (parent(),),
    claim="a program started by posix_spawn leaves no page write-protected",
)
def posix_spawn(me: Writer) -> None:
    """starts 5 programs by posix_spawn, then writes every page: no fault, no copy"""
    me.populate(BEFORE)
    for _ in range(_PROCESSES):
        program = os.posix_spawn("/bin/true", ["true"], {})
        _, status = os.waitpid(program, 0)
        me.expect_that(status == 0)
    me.write(PARENT, protected=False)
    me.expect(PARENT)


@_shared_mm(
    lambda pages: (parent(),), claim="threads that write the pages that they share copy nothing"
)
def threads_write(me: Writer) -> None:
    """4 threads write every page, without a fork: no fault, no copy"""
    me.populate(BEFORE)
    threads = [threading.Thread(target=me.region.fill, args=(PARENT,)) for _ in range(THREADS)]
    with me.watch(protected=False):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    me.expect(PARENT)
