"""Others trace the functions that copy: no copy is missing without a loss, and none is made up.

A kretprobe and the function-graph tracer replace the return address on the stack, by which a copy
is told from other changes of an entry; see bpf/find_fault.h. While the kernel patches a function
for a probe, that function's address is on its stack.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from workload_checks import PRIME_PAGES, unaccounted

from cowtrace import tracer
from cowtrace.kernel.plan import PlanName
from cowtrace.model import FaultKind
from cowtrace.workloads import run_forked
from cowtrace.workloads.comparison import comparison
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [pytest.mark.vm, pytest.mark.spread("5.10", "7.2")]

TRACING = Path("/sys/kernel/tracing")
FUNCTION = "ptep_clear_flush"


def append(events: Path, definition: str) -> None:
    """To write anything else would remove the events of others."""
    fd = os.open(events, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, f"{definition}\n".encode())
    finally:
        os.close(fd)


@contextmanager
def kretprobe() -> Iterator[None]:
    events, enable = TRACING / "kprobe_events", TRACING / "events/cow_test/foreign/enable"
    append(events, f"r:cow_test/foreign {FUNCTION}")
    try:
        enable.write_text("1")
        yield
        enable.write_text("0")
    finally:
        append(events, "-:cow_test/foreign")


@contextmanager
def function_graph() -> Iterator[None]:
    functions, current = TRACING / "set_ftrace_filter", TRACING / "current_tracer"
    functions.write_text(FUNCTION)
    try:
        current.write_text("function_graph")
        yield
    finally:
        current.write_text("nop")
        functions.write_text("")


@pytest.mark.parametrize("foreign", [kretprobe, function_graph])
@pytest.mark.parametrize("plan", ["fentry", "kprobe"])
def test_a_replaced_return_address_hides_no_copy(
    plan: PlanName, foreign: Callable[[], AbstractContextManager[None]]
) -> None:
    with tracer.attach(plan, region=(REGION_START, REGION_END)) as live:
        with foreign():
            outcome = run_forked("fork-child-writes", PRIME_PAGES)
            during = live.snapshot()
        afterwards = run_forked("fork-child-writes", PRIME_PAGES)
        after = live.snapshot()
    assert unaccounted(outcome, during) == []
    assert unaccounted(afterwards, after, during.completeness.lost) == []
    lost = comparison(outcome, during).lost
    assert sum(p.count(FaultKind.COPIED) or 0 for p in during.processes) + lost >= PRIME_PAGES


@pytest.mark.spread("6.12")
@pytest.mark.parametrize("plan", ["fentry", "kprobe"])
def test_a_function_that_is_patched_for_another_tracer_is_no_lost_copy(plan: PlanName) -> None:
    with tracer.attach(plan) as live:
        for _ in range(3):
            tracer.attach("fentry", outcomes=True).close()  # wp_page_copy() is inlined on 6.12
        run_forked("fork-child-writes", PRIME_PAGES)
        after = live.snapshot()
    assert after.completeness.lost == 0
    assert sum(p.count(FaultKind.COPIED) or 0 for p in after.processes) >= PRIME_PAGES
