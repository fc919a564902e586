"""Every workload, traced five times on this machine's kernel by the plan that it allows."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from workload_checks import MANY_PAGES, problems

from cowtrace import tracer
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.workloads import REGION_END, REGION_START, WORKLOADS, paths, run

RUNS = 5
ATTEMPTS = 3


@pytest.fixture(scope="module")
def live() -> Iterator[tracer.Tracer]:
    """Attached once: every run has pids of its own."""
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    try:
        attached = tracer.attach("auto", region=(REGION_START, REGION_END))
    except CowtraceError as error:
        if error.exit_code != EXIT_NO_PLAN:
            raise
        pytest.skip(f"this machine: {error}")
    with attached:
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
