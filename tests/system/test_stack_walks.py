"""Only copies have stacks; a copied page that belongs to the stack itself counts once."""

from __future__ import annotations

import ctypes
import mmap
import os

import pytest
from detail_checks import kinds
from writers import PAGE, PAGES, copied, parent_of_writers

from cowtrace import tracer
from cowtrace.model import FaultKind
from cowtrace.tracer.filter import Filter
from cowtrace.workloads import run_forked
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("can_trace")]

OWN = Filter(pids=(os.getpid(),), follow=True)
# push %rbp; mov %rsp, %rbp; mov %rdi, %rsp; movb $2, (%rdi); mov %rbp, %rsp; pop %rbp; ret
CODE = bytes.fromhex("55 48 89 e5 48 89 fc c6 07 02 48 89 ec 5d c3")


def test_a_re_mark_has_no_stack() -> None:
    with tracer.attach(
        region=(REGION_START, REGION_END), details=frozenset({"stack", "kernel-stack"}), only=OWN
    ) as live:
        outcome = run_forked("fork-both-write", PAGES)
        rows = live.snapshot().details
    parent, child = (process.pid for process in outcome.processes)
    with_stack = kinds(row for row in rows if row.user_stack or row.kernel_stack)
    without = kinds(row for row in rows if not (row.user_stack or row.kernel_stack))
    assert with_stack == {(child, FaultKind.COPIED): PAGES}
    assert set(without) == {(parent, FaultKind.REUSED)}
    assert without.total() == PAGES  # though a walk can leave the page's old entry in the TLB


@pytest.mark.x86_64  # it is machine code
def test_a_copied_page_of_the_stack_counts_once() -> None:
    """Reading the page for a sample, before it is copied, would make the write fault again."""
    code = mmap.mmap(-1, PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(CODE)
    at = ctypes.addressof(ctypes.c_char.from_buffer(code))
    store = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(at)
    with (
        tracer.attach(
            "tracepoint", region=(REGION_START, REGION_END), samples=True, only=OWN
        ) as live,
        parent_of_writers(),
    ):
        if not (child := os.fork()):
            # Downwards: no earlier sample has included the page.
            for page in reversed(range(PAGES)):
                store(REGION_START + page * PAGE)
            os._exit(0)
        os.waitpid(child, 0)
        done = live.snapshot()
    process = done.process(child)
    assert process
    assert (copied(done, child), process.faults) == (PAGES, PAGES)
    assert 0 < sum(row.faults for row in done.samples if row.pid == child) <= PAGES
