"""The tracepoint plan bounds what it cannot see: copies that the kernel makes in a system call."""

from __future__ import annotations

import os

import pytest

from cowtrace import tracer
from cowtrace.model import FaultKind
from cowtrace.tracer.filter import Filter
from cowtrace.workloads import run_forked
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread("5.10", "7.2"),
    pytest.mark.x86_64,  # arm64 has no tracepoint plan
]

PAGES = 509
PAGE_CACHE = 64  # pages that the workload's processes may allocate besides


@pytest.mark.parametrize("name", ["kernel-mlock", "fork-child-writes"])
def test_copies_in_system_calls_are_bounded(name: str) -> None:
    only = Filter(pids=(os.getpid(),), follow=True)
    with tracer.attach("tracepoint", region=(REGION_START, REGION_END), only=only) as live:
        outcome = run_forked(name, PAGES)
        seen = live.snapshot()
    child = seen.process(outcome.processes[1].pid)
    assert seen.in_system_calls is not None
    copied, _ = seen.in_system_calls
    hidden = PAGES if name == "kernel-mlock" else 0
    assert (child.count(FaultKind.COPIED) if child else 0) == PAGES - hidden
    assert hidden <= copied <= hidden + PAGE_CACHE
