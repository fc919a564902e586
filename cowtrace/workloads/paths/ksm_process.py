"""Have KSM merge all memory of a process: PR_SET_MEMORY_MERGE."""

from __future__ import annotations

from functools import partial

from cowtrace.model import Source
from cowtrace.workloads import calls
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import child, copied, parent
from cowtrace.workloads.paths.ksm import ksm, merge
from cowtrace.workloads.paths.ksm_unmerge import unmerged_then_written, write_unmerged
from cowtrace.workloads.workload import KERNEL_FAULT
from cowtrace.workloads.writer import BEFORE, CHILD, PARENT, Writer

_process = partial(ksm, group="KSM for a process")


@_process(
    lambda pages: (parent(copied(pages, Source.KSM)), child(copied(pages, Source.KSM))),
    frames=3,
    claim="PR_SET_MEMORY_MERGE: KSM merges all memory of a process and of its children",
)
def ksm_process(me: Writer) -> None:
    """prctl lets KSM merge a whole process; its child, then it write: both copy"""
    _set_memory_merge(1)
    merge(me, advise=False)
    with me.fork() as other:
        me.note("prctl", "child: PR_GET_MEMORY_MERGE", 1, other.do(_memory_merge))
        other.do(Writer.write, CHILD)
        me.expect(BEFORE)
        me.write(PARENT)
        other.do(Writer.expect, CHILD)
        me.expect(PARENT)


@_process(
    unmerged_then_written,
    claim="PR_SET_MEMORY_MERGE switched off copies all merged pages of the process at once",
    unseen_by=KERNEL_FAULT,
)
def ksm_process_unmerge(me: Writer) -> None:
    """prctl lets KSM merge a whole process, then forbids it: merged pages are copied"""
    _set_memory_merge(1)
    merge(me, advise=False)
    with me.watch(every_page=False):
        # "mm/ksm: unmerge and clear VM_MERGEABLE when setting PR_SET_MEMORY_MERGE=0" (6.5)
        _set_memory_merge(0)
    write_unmerged(me)


def _set_memory_merge(on: int) -> None:
    """Raises Unsupported before "mm: add new api to enable ksm per process" (6.4)."""
    try:
        calls.prctl(calls.PR_SET_MEMORY_MERGE, on)
    except OSError as error:
        raise Unsupported("this kernel has no PR_SET_MEMORY_MERGE") from error


def _memory_merge(me: Writer) -> int:
    return calls.prctl(calls.PR_GET_MEMORY_MERGE)
