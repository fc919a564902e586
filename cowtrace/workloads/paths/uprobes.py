"""Set uprobes in text that processes share: each gets private pages without a write of its own."""

from __future__ import annotations

import mmap
import os
import tempfile
from contextlib import ExitStack
from typing import IO

from cowtrace.model import Origin, Source
from cowtrace.workloads import features
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.oracles.perf_events import set_uprobe
from cowtrace.workloads.outcome import Expected, child, copied, parent
from cowtrace.workloads.region import PAGE_BYTES, Backing, map_over
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import Writer

# An instruction of each architecture that does nothing.
_NOP = {"x86_64": b"\x90", "aarch64": b"\x1f\x20\x03\xd5", "riscv64": b"\x13\0\0\0"}


def _probed(pages: int) -> tuple[Expected, ...]:
    """Setting a uprobe is a write fault, made by who sets it, in each process that maps the text.

    It is since "kernel/events/uprobes: uprobe_write_opcode() rewrite" (6.16). Before, the kernel
    puts its copy into the page table itself, without a fault. Beside it came a parameter of that
    name.
    """
    if not _is_fault():
        return (parent(), child())
    row = copied(pages, Source.FILE, Origin.REMOTE, actor="parent")
    return (parent(row), child(row))


def _is_fault() -> bool:
    return features.has_type("opcode_vaddr")


@workload(
    _probed,
    frames=3,
    most=23,  # a perf event for each
    group="uprobe",
    claim="a uprobe in shared text gives each process a private page, without a write of its own",
    unseen_by={"tracepoint": "no exception is raised when the kernel copies the page"},
)
def uprobe_in_shared_text(me: Writer) -> None:
    """two processes map a text; a uprobe is set on each page, and removed again"""
    nop = _NOP.get(os.uname().machine)
    if not nop:
        raise Unsupported("uprobes are tried on x86-64, arm64 and riscv64 alone")
    with tempfile.TemporaryFile(dir="/var/tmp") as text:
        text.write(nop * (me.region.size_bytes // len(nop)))
        text.flush()
        _map_text(me, text)
        with me.fork() as other:
            mine, theirs = _frames_of_text(me), other.do(_frames_of_text)
            me.note_frames("frames of the text that both share", mine, theirs)
            with ExitStack() as probes:
                for page in range(me.region.pages):
                    probes.callback(os.close, _set_uprobe(text, page * PAGE_BYTES))
                own, others = me.frames(), other.do(Writer.frames)
                me.note_frames("parent: frames that a uprobe changed", mine, own, differ=True)
                me.note_frames("child: frames that a uprobe changed", theirs, others, differ=True)
                me.note_frames("frames that are not the child's too", own, others, differ=True)
                breakpoints = _breakpoints(me, nop), other.do(_breakpoints, nop)
                me.note("data", "pages with a breakpoint, parent", me.region.pages, breakpoints[0])
                me.note("data", "pages with a breakpoint, child", me.region.pages, breakpoints[1])
                me.expect_that(me.region.load_from_file() == {nop[0]})
            me.note("data", "breakpoints left", 0, _breakpoints(me, nop))
            me.note("data", "breakpoints left, child", 0, other.do(_breakpoints, nop))
            if not _is_fault():  # the text's own pages are mapped again
                me.note_frames("parent: frames of the text again", mine, me.frames())
                me.note_frames("child: frames of the text again", theirs, other.do(Writer.frames))
            me.frames_cannot_show("copied")  # neither process wrote
            other.do(Writer.frames_cannot_show, "copied")
    if _is_fault():
        me.findings.append(
            "a write fault of who sets the uprobe copies the page, which may stay private after it"
        )
    else:
        me.findings.append(
            "the page is copied without a fault; after it, the file's page is mapped again"
        )


def _map_text(me: Writer, text: IO[bytes]) -> None:
    protection = mmap.PROT_READ | mmap.PROT_EXEC
    try:
        me.region = map_over(me.region, Backing.PRIVATE_FILE, protection=protection, file=text)
    except OSError as error:
        raise Unsupported(f"/var/tmp has no programs: {error.strerror}") from error


def _frames_of_text(me: Writer) -> list[int]:
    me.region.load()
    return me.frames()


def _set_uprobe(text: IO[bytes], offset: int) -> int:
    try:
        return set_uprobe(f"/proc/self/fd/{text.fileno()}", offset)
    except (OSError, ValueError) as error:
        raise Unsupported(f"no uprobes in this kernel, or not allowed: {error}") from error


def _breakpoints(me: Writer, nop: bytes) -> int:
    """Pages that do not begin with the text any more."""
    return sum(byte != nop[0] for byte in me.region.load())
