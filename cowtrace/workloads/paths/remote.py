"""Let another process, or the kernel, write a page that fork made shared."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from cowtrace.model import Origin
from cowtrace.workloads import calls
from cowtrace.workloads.oracles.writes import Writes
from cowtrace.workloads.outcome import child, copied, parent
from cowtrace.workloads.region import REGION_START, Region
from cowtrace.workloads.stepped_child import Child
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, Writer

_by_parent = partial(
    workload,
    lambda pages: (parent(), child(copied(pages, origin=Origin.REMOTE, actor="parent"))),
    group="remote write",
    unseen_by={"tracepoint": "no exception is raised when another process makes the fault"},
)


@_by_parent(
    claim="a debugger's write (ptrace POKEDATA) copies, and is attributed to the memory's owner",
)
def remote_ptrace(me: Writer) -> None:
    """the parent pokes a word into every page of the child by ptrace: copied"""

    def poke(other: Child[Writer]) -> None:
        calls.ptrace(calls.PTRACE_ATTACH, other.pid)
        os.waitpid(other.pid, 0)
        for address in me.region.addresses:
            calls.ptrace(calls.PTRACE_POKEDATA, other.pid, address, CHILD * 0x0101010101010101)
        calls.ptrace(calls.PTRACE_DETACH, other.pid)

    _written_by_parent(me, poke)


@_by_parent(
    claim="process_vm_writev copies, and is attributed to the memory's owner",
)
def remote_vm_writev(me: Writer) -> None:
    """the parent writes a byte of every page of the child by process_vm_writev: copied"""

    def write(other: Child[Writer]) -> None:
        def write_region(region: Region) -> None:
            owner = other.pid if region.start == REGION_START else os.getpid()  # a rehearsal
            calls.vm_write(owner, region.addresses, CHILD)

        _counted(me, write_region)

    _written_by_parent(me, write)


@_by_parent(
    claim="a write to /proc/PID/mem copies, and is attributed to the memory's owner",
)
def remote_proc_mem(me: Writer) -> None:
    """the parent writes a byte of every page of the child by /proc/PID/mem: copied"""

    def write(other: Child[Writer]) -> None:
        own, others = (os.open(f"/proc/{pid}/mem", os.O_RDWR) for pid in (os.getpid(), other.pid))
        value = bytes([CHILD])

        def through_file(region: Region) -> None:
            file = others if region.start == REGION_START else own
            for address in region.addresses:
                os.pwrite(file, value, address)

        _counted(me, through_file)
        os.close(own)
        os.close(others)

    _written_by_parent(me, write)


def _written_by_parent(me: Writer, write: Callable[[Child[Writer]], None]) -> None:
    me.populate(BEFORE)
    with me.fork() as other:
        before = other.do(Writer.entries)
        write(other)
        other.do(Writer.note_changes, before)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _counted(me: Writer, write: Callable[[Region], None]) -> None:
    """Note the kernel's own counts: those of the thread that makes the fault, the writer."""
    writes = Writes()
    writes.count(write, me.region)
    copies = writes.wp_copies
    if copies is not None and copies < me.region.pages:
        copies = None  # it skips copies that took no time by its clock
    pages = me.region.pages
    me.note_of_thread("taskstats", "parent, the writer: wpcopy", pages, copies)
    me.note_of_thread("rusage", "parent, the writer: page faults", pages, writes.page_faults)


@workload(
    lambda pages: (parent(), child(copied(pages, origin=Origin.KERNEL))),
    group="kernel mode",
    claim="read(2) into a page that fork made shared copies it, in kernel mode",
)
def kernel_read(me: Writer) -> None:
    """the child reads a file into its pages by one system call: the kernel writes them"""
    me.child_writes(_read_file)


def _read_file(me: Writer) -> None:
    file = os.memfd_create("cowtrace")
    os.write(file, bytes([CHILD]) * me.region.size_bytes)

    def read(region: Region) -> None:
        os.preadv(file, [region.view], 0)

    me.act(read)
    os.close(file)
