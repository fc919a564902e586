"""What a fork costs: its page tables, its time, its own copies, and the parent's first second."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from workload_checks import IN_VM, plans
from writers import PAGE, PAGES, end, parent_of_writers, sleeping_child

from cowtrace import tracer
from cowtrace.kernel.options import Detail
from cowtrace.model import COPIES, FaultKind, ForkGeneration, Snapshot
from cowtrace.workloads import run_forked
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.usefixtures("can_trace")]

PLANS = plans() if IN_VM else ("auto",)
GENERATION: frozenset[Detail] = frozenset({"generation"})
FORKS = 5
MIB = 67  # of memory in a fork that is timed
LATER = 59  # pages
TRACEME, CONT, SETOPTIONS = 0, 7, 0x4200
TRACEFORK_EXITKILL = 0x2 | 0x100000
ALL_CHILDREN = 0x40000000  # __WALL
# Maps memory, waits for its tracer, forks a child that never runs.
SUBJECT = """
import ctypes, mmap, os, signal
memory = mmap.mmap(-1, {size}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise({advice})
for page in range(0, {size}, mmap.PAGESIZE):
    memory[page] = 1
ctypes.CDLL(None).ptrace(0, 0, None, None)
os.kill(os.getpid(), signal.SIGSTOP)
os.fork()
os._exit(0)
"""
SMALL, HUGE = "mmap.MADV_NOHUGEPAGE", "mmap.MADV_HUGEPAGE"


@contextmanager
def stopped_child(size: int, advice: str) -> Iterator[tuple[int, int]]:
    """A parent that has just forked, and its child, which has run no instruction in user mode."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = SUBJECT.format(size=size, advice=advice)
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
    child = 0
    try:
        os.waitpid(pid, ALL_CHILDREN)  # it stopped itself
        options = ctypes.c_void_p(TRACEFORK_EXITKILL)
        assert libc.ptrace(SETOPTIONS, pid, None, options) == 0, ctypes.get_errno()
        assert libc.ptrace(CONT, pid, None, None) == 0
        os.waitpid(pid, ALL_CHILDREN)  # in its fork
        child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        os.waitpid(child, ALL_CHILDREN)  # before its first instruction
        yield pid, child
    finally:
        for each in filter(None, (child, pid)):
            os.kill(each, signal.SIGKILL)
            os.waitpid(each, ALL_CHILDREN)


def page_table_bytes(pid: int) -> int:
    found = re.search(r"^VmPTE:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found
    return int(found[1]) << 10


def of_child(now: Snapshot, child: int) -> ForkGeneration:
    (found,) = (fork for fork in now.generations if fork.child == child)
    return found


@pytest.fixture(scope="module", params=PLANS)
def live(request: pytest.FixtureRequest) -> Iterator[tracer.Tracer]:
    with tracer.attach(request.param, details=GENERATION) as attached:
        yield attached


@pytest.mark.parametrize("advice", [SMALL, HUGE])
@pytest.mark.parametrize("pages", [1, 509, 8209, 20011])
def test_page_tables_are_those_of_the_child(live: tracer.Tracer, pages: int, advice: str) -> None:
    with stopped_child(pages * PAGE, advice) as (pid, child):
        wanted = page_table_bytes(child)
        found = of_child(live.snapshot(), child)
    assert found.parent == pid
    assert found.page_table_bytes == wanted
    assert wanted >= pages * 8  # an entry a page, also of a huge one: a table is kept to split it


def test_a_fork_takes_no_longer_than_its_parent_says(live: tracer.Tracer) -> None:
    memory = bytearray(MIB << 20)
    memory[::PAGE] = bytes([1]) * len(memory[::PAGE])
    measured = {}
    for _ in range(FORKS):
        began = time.monotonic_ns()
        child = sleeping_child()
        measured[child] = time.monotonic_ns() - began
        end(child)
    now = live.snapshot()
    parts = []
    for child, ns in measured.items():
        fork = of_child(now, child)
        if fork.fork_ns is None:
            assert live.plan == "tracepoint"
            assert "FORK_TIMES" not in live.probe_plan.defines  # before 6.2
            return
        assert 0 < fork.fork_ns <= ns
        parts.append(fork.fork_ns / ns)
        if live.plan == "tracepoint":
            assert fork.lock_ns is None
        else:
            assert fork.lock_ns
            assert fork.lock_ns < fork.fork_ns
    # The rest of the call starts the child, which may run first: one of the calls was not held up.
    assert max(parts) > 0.1


def test_threads_and_vfork_have_no_page_tables_of_their_own(live: tracer.Tracer) -> None:
    before = {fork.number for fork in live.snapshot().generations}
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)  # borrows the memory
    mine = [
        fork
        for fork in live.snapshot().generations
        if fork.parent == os.getpid() and fork.number not in before
    ]
    assert mine == []


@pytest.mark.parametrize("plan", PLANS)
def test_pages_that_fork_itself_copies(plan: str) -> None:
    with tracer.attach(plan, details=GENERATION, fork_copies=True) as live:
        try:
            outcome = run_forked("pinned-fork", PAGES)
        except Unsupported as reason:
            pytest.skip(str(reason))
        found = of_child(live.snapshot(), outcome.processes[1].pid)
        if "FORK_TIMES" in live.probe_plan.defines:
            assert found.fork_copied_bytes == PAGES * PAGE
        else:
            assert found.fork_copied_bytes is None
    with tracer.attach(plan, details=GENERATION) as live, parent_of_writers():
        end(child := sleeping_child())
        known = live.plan == "tracepoint" and "FORK_TIMES" in live.probe_plan.defines
        assert of_child(live.snapshot(), child).fork_copied_bytes == (0 if known else None)


@pytest.mark.parametrize("plan", PLANS)
def test_the_first_second_of_the_parent(plan: str) -> None:
    details = GENERATION | {"latency"}
    region = (REGION_START, REGION_END)
    with tracer.attach(plan, details=details, region=region) as live, parent_of_writers():  # type: ignore[arg-type]
        child = sleeping_child()
        for page in range(PAGES - LATER):
            ctypes.memset(REGION_START + page * PAGE, 2, 1)
        took_ns = time.monotonic_ns()
        early = live.snapshot()
        fork = of_child(early, child)
        if "latency" not in live.probe_plan.details:
            assert fork.first_second_ns is None
            assert fork.stall_ns is None
            end(child)
            return
        while time.monotonic_ns() <= fork.at_ns + 1_000_000_000:
            time.sleep(0.1)
        for page in range(PAGES - LATER, PAGES):
            ctypes.memset(REGION_START + page * PAGE, 2, 1)
        late = live.snapshot()
        end(child)
    assert timed(early) < timed(late)
    assert of_child(late, child).first_second_ns <= timed(early)  # type: ignore[operator]
    if took_ns < fork.at_ns + 1_000_000_000:  # else this machine is slow
        assert of_child(late, child).first_second_ns == timed(early)


def timed(now: Snapshot) -> int:
    kinds = (*COPIES, FaultKind.REUSED)
    return sum(r.ns or 0 for r in now.details if r.pid == os.getpid() and r.kind in kinds)
