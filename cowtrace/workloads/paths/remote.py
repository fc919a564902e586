"""Workloads in which another process, or the kernel, writes a page that fork made shared."""

from __future__ import annotations

import os
from collections.abc import Callable

from cowtrace.model import Origin
from cowtrace.workloads import calls
from cowtrace.workloads.counts import Expected
from cowtrace.workloads.expectations import child, copied, parent
from cowtrace.workloads.forks import BEFORE, CHILD
from cowtrace.workloads.oracles.writes import Writes
from cowtrace.workloads.region import PAGE_BYTES, REGION_START, Region
from cowtrace.workloads.stepped_child import Child
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writing_process import Actor

_UNSEEN = {"tracepoint": "no exception is raised when another process makes the fault"}


def _foretell(pages: int) -> tuple[Expected, ...]:
    remote = copied(pages, origin=Origin.REMOTE, actor="parent")
    return (parent(), child(remote))


@workload(
    _foretell,
    group="remote write",
    claim="a debugger's write (ptrace POKEDATA) copies, and is charged to the memory's owner",
    unseen_by=_UNSEEN,
)
def remote_ptrace(me: Actor) -> None:
    """the parent pokes a word into every page of the child by ptrace: copied"""

    def poke(other: Child[Actor]) -> None:
        calls.ptrace(calls.PTRACE_ATTACH, other.pid)
        os.waitpid(other.pid, 0)
        for address in _addresses(me.region):
            calls.ptrace(calls.PTRACE_POKEDATA, other.pid, address, CHILD * 0x0101010101010101)
        calls.ptrace(calls.PTRACE_DETACH, other.pid)

    _written_by_parent(me, poke)


@workload(
    _foretell,
    group="remote write",
    claim="process_vm_writev copies, and is charged to the memory's owner",
    unseen_by=_UNSEEN,
)
def remote_vm_writev(me: Actor) -> None:
    """the parent writes a byte of every page of the child by process_vm_writev: copied"""

    def write(other: Child[Actor]) -> None:
        _counted(
            me, lambda region: calls.vm_write(_owner(region, other), _addresses(region), CHILD)
        )

    _written_by_parent(me, write)


@workload(
    _foretell,
    group="remote write",
    claim="a write to /proc/PID/mem copies, and is charged to the memory's owner",
    unseen_by=_UNSEEN,
)
def remote_proc_mem(me: Actor) -> None:
    """the parent writes a byte of every page of the child by /proc/PID/mem: copied"""

    def write(other: Child[Actor]) -> None:
        own, others = (os.open(f"/proc/{pid}/mem", os.O_RDWR) for pid in (os.getpid(), other.pid))
        value = bytes([CHILD])

        def through_file(region: Region) -> None:
            file = others if region.start == REGION_START else own
            for address in _addresses(region):
                os.pwrite(file, value, address)

        _counted(me, through_file)
        os.close(own)
        os.close(others)

    _written_by_parent(me, write)


def _written_by_parent(me: Actor, write: Callable[[Child[Actor]], None]) -> None:
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(Actor.mark)
        write(other)
        other.do(Actor.compare_with_mark)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)


def _counted(me: Actor, write: Callable[[Region], None]) -> None:
    """The kernel's own counts are those of the thread that makes the fault: the writer."""
    writes = Writes()
    writes.count(write, me.region)
    copies = writes.wp_copies
    if copies is not None and copies < me.region.pages:
        copies = None  # it leaves out copies that took no time by its clock
    pages = me.region.pages
    me.note_of_thread("taskstats", "parent, the writer: wpcopy", pages, copies)
    me.note_of_thread("rusage", "parent, the writer: page faults", pages, writes.page_faults)


def _owner(region: Region, other: Child[Actor]) -> int:
    """The child's pid for the region, our own for the rehearsal's memory."""
    return other.pid if region.start == REGION_START else os.getpid()


def _addresses(region: Region) -> range:
    return range(region.start, region.start + region.size_bytes, PAGE_BYTES)


@workload(
    lambda pages: (parent(), child(copied(pages, origin=Origin.KERNEL))),
    group="kernel mode",
    claim="read(2) into a page that fork made shared copies it, in kernel mode",
)
def kernel_read(me: Actor) -> None:
    """the child reads a file into its pages by one system call: the kernel writes them"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(_read_file)
        other.do(Actor.expect, CHILD)
        me.expect(BEFORE)


def _read_file(me: Actor) -> None:
    file = os.memfd_create("cowtrace")
    os.write(file, bytes([CHILD]) * me.region.size_bytes)
    me.act(lambda region: _pread(file, region))
    os.close(file)


def _pread(file: int, region: Region) -> None:
    os.preadv(file, [region.view], 0)
