"""Every workload, traced five times on this machine's kernel by the plan that it allows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from workload_checks import MANY_PAGES, problems

from cowtrace import tracer
from cowtrace.workloads import REGION_END, REGION_START, WORKLOADS, paths, run

RUNS = 5
ATTEMPTS = 3


@pytest.fixture(scope="module")
def live(can_trace: None) -> Iterator[tracer.Tracer]:
    """Attached once: every run has pids of its own."""
    with tracer.attach("auto", region=(REGION_START, REGION_END)) as attached:
        yield attached


@pytest.mark.parametrize("time", range(1, RUNS + 1))
@pytest.mark.parametrize("name", [name for name in WORKLOADS if name not in paths.NAMES])
def test_traced_is_expected_and_what_pagemap_says(
    live: tracer.Tracer, name: str, time: int
) -> None:
    # On a preemptible kernel the kernel can pass a program over, and says so: then the trace says
    # itself that it is not complete, and the run proves nothing.
    for _ in range(ATTEMPTS):
        lost = live.snapshot().completeness.lost
        outcome = run(name, MANY_PAGES)
        snapshot = live.snapshot()
        if snapshot.completeness.lost == lost:
            break
    assert problems(outcome, snapshot, lost_before=lost) == []
