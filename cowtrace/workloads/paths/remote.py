"""Let another process, or the kernel, write a page that fork made shared."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from cowtrace.model import Origin
from cowtrace.workloads import calls
from cowtrace.workloads.oracles.writes import Writes
from cowtrace.workloads.outcome import child, copied, parent
from cowtrace.workloads.paths.populate import lock
from cowtrace.workloads.region import Region
from cowtrace.workloads.workload import KERNEL_FAULT, workload
from cowtrace.workloads.writer import BEFORE, CHILD, Writer

_by_parent = partial(
    workload,
    lambda pages: (parent(), child(copied(pages, origin=Origin.REMOTE, actor="parent"))),
    group="remote write",
    unseen_by={"tracepoint": "no exception is raised when another process makes the fault"},
)


@_by_parent(
    claim="a debugger's write (ptrace POKEDATA) copies, and is attributed to the memory's owner"
)
def remote_ptrace(me: Writer) -> None:
    """the parent pokes a word into every page of the child by ptrace: copied"""

    def poke(pid: int, region: Region) -> None:
        with _traced(pid):
            for address in region.addresses:
                calls.ptrace(calls.PTRACE_POKEDATA, pid, address, CHILD * 0x0101010101010101)

    _written_by_parent(me, poke, counted=False)  # no process can rehearse it on itself


@_by_parent(claim="process_vm_writev copies, and is attributed to the memory's owner")
def remote_vm_writev(me: Writer) -> None:
    """the parent writes a byte of every page of the child by process_vm_writev: copied"""
    _written_by_parent(me, lambda pid, region: calls.vm_write(pid, region.addresses, CHILD))


@_by_parent(claim="a write to /proc/PID/mem copies, and is attributed to the memory's owner")
def remote_proc_mem(me: Writer) -> None:
    """the parent writes a byte of every page of the child by /proc/PID/mem: copied"""
    _written_by_parent(me, _write_proc_mem)


@_by_parent(claim="a debugger's write to PROT_NONE memory copies as any other write")
def remote_prot_none(me: Writer) -> None:
    """the parent, its debugger, writes the child's PROT_NONE pages: copied"""

    def write(pid: int, region: Region) -> None:
        # "proc: add config & param to block forcing mem writes" (6.12): 7.2 allows it to debuggers.
        with _traced(pid):
            _write_proc_mem(pid, region)

    _written_by_parent(me, write, counted=False, accessible=False)


@contextmanager
def _traced(pid: int) -> Iterator[None]:
    calls.ptrace(calls.PTRACE_ATTACH, pid)
    os.waitpid(pid, 0)
    yield
    calls.ptrace(calls.PTRACE_DETACH, pid)


def _write_proc_mem(pid: int, region: Region) -> None:
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
    for address in region.addresses:
        os.pwrite(memory, bytes([CHILD]), address)
    os.close(memory)


def _written_by_parent(
    me: Writer,
    write: Callable[[int, Region], None],
    *,
    counted: bool = True,
    accessible: bool = True,
) -> None:
    """Write the child's pages by a function of its PID; note the kernel's counts of the writer.

    The kernel counts the faults for the thread that makes them, the writer.
    """
    me.populate(BEFORE)
    with me.fork() as other:
        if not accessible:
            other.do(_protect, calls.PROT_NONE)
        before = other.do(Writer.entries)
        mine, theirs = os.getpid(), other.pid
        if counted:
            _note_counts(me, lambda region: write(theirs if region is me.region else mine, region))
        else:
            write(theirs, me.region)
        other.do(Writer.note_changes, before)
        if not accessible:
            other.do(_protect, calls.PROT_READ | calls.PROT_WRITE)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _protect(me: Writer, protection: int) -> None:
    calls.mprotect(me.region.start, me.region.size_bytes, protection)


def _note_counts(me: Writer, write: Callable[[Region], None]) -> None:
    writes, pages = Writes(), me.region.pages
    writes.count(write, me.region)  # rehearsed in this process's own memory
    copies = writes.wp_copies
    if copies is not None and copies < pages:
        copies = None  # it skips copies that took no time by its clock
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


@workload(
    lambda pages: (parent(), child(copied(pages, origin=Origin.KERNEL))),
    group="kernel mode",
    claim="mlock(2) of pages that fork made shared copies them, in one system call",
    unseen_by=KERNEL_FAULT,
)
def kernel_mlock(me: Writer) -> None:
    """the child locks its pages in memory by one system call: each is copied"""
    me.populate(BEFORE)
    with me.fork() as other:
        other.do(lock)
        other.do(Writer.expect, BEFORE)
        me.expect(BEFORE)


def _read_file(me: Writer) -> None:
    with file_reader(me) as read:
        me.act(read)


@contextmanager
def file_reader(me: Writer) -> Iterator[Callable[[Region], object]]:
    """A function that reads a file of CHILD bytes into a region by one system call."""
    file = os.memfd_create("cowtrace")
    os.write(file, bytes([CHILD]) * me.region.size_bytes)
    try:
        yield lambda region: os.preadv(file, [region.view], 0)
    finally:
        os.close(file)
