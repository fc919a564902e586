"""Trace every other path of copy-on-write by every plan at once.

Where a kernel differs from the textbook, the workload itself expects what that kernel does, and
names the feature that decides: see cowtrace/workloads/paths/.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from workload_checks import CANNOT, PRIME_PAGES, attached, path_problems, unaccounted

from cowtrace import tracer
from cowtrace.kernel.preemption import preemptible
from cowtrace.workloads import paths, run_forked
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.region import PAGE_BYTES, REGION_END, REGION_START

Tracers = dict[str, tracer.Tracer]
ATTEMPTS = 3

# A prime: more small pages than one huge page has.
TWO_HUGE_PAGES = 523 if PAGE_BYTES == 4096 else 2053


@pytest.fixture(scope="module")
def tracers() -> Iterator[Tracers]:
    """By name. Attached once, since that takes seconds under emulation."""
    region = (REGION_START, REGION_END)
    with ExitStack() as stack:
        yield attached(stack, region=region, fork_copies=True)


@pytest.mark.vm
@pytest.mark.parametrize(
    "pages",
    [pytest.param(PRIME_PAGES, marks=pytest.mark.spread("5.10", "7.2")), TWO_HUGE_PAGES],
)
@pytest.mark.parametrize("name", paths.NAMES)
def test_traced_counts_match_expectations_and_every_oracle(
    tracers: Tracers, name: str, pages: int
) -> None:
    lost = {plan: live.snapshot().completeness.lost for plan, live in tracers.items()}
    try:
        outcome = run_forked(name, pages)
    except Unsupported as reason:
        if name not in CANNOT:
            pytest.fail(str(reason))
        return
    snapshots = {plan: live.snapshot() for plan, live in tracers.items()}
    if preemptible():  # these two may lose faults there, and must report how many
        for plan in {plan for plan in snapshots if not plan.startswith("kprobe")}:
            assert unaccounted(outcome, snapshots.pop(plan)) == []
    wrong = {plan: path_problems(outcome, seen, lost[plan]) for plan, seen in snapshots.items()}
    assert wrong == {plan: [] for plan in snapshots}


@pytest.mark.host
@pytest.mark.usefixtures("can_trace")
@pytest.mark.parametrize("name", paths.NAMES)
def test_this_kernels_plan_counts_them_right(name: str) -> None:
    with tracer.attach("auto", region=(REGION_START, REGION_END), fork_copies=True) as live:
        # A preemptible kernel can skip a program, and counts that: such a run proves nothing.
        for _ in range(ATTEMPTS):
            lost = live.snapshot().completeness.lost
            try:
                outcome = run_forked(name, TWO_HUGE_PAGES)
            except Unsupported as reason:
                pytest.skip(str(reason))
            snapshot = live.snapshot()
            if snapshot.completeness.lost == lost:
                break
    assert path_problems(outcome, snapshot, lost) == []
