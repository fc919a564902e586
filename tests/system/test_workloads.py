"""Trace every workload: the counts must match what it expects and what pagemap shows.

The VM's kernels allow every plan. They are attached at the same time, so that one run serves all,
and must agree about the same faults. This machine's kernel is traced by the plan that it allows.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from workload_checks import MANY_PAGES, PRIME_PAGES, attached, problems, unaccounted

from cowtrace import tracer
from cowtrace.kernel.kallsyms import read_kallsyms
from cowtrace.kernel.preemption import preemptible
from cowtrace.model import Snapshot
from cowtrace.tracer import bpf_maps
from cowtrace.workloads import paths, run, run_forked
from cowtrace.workloads.comparison import Row, comparison
from cowtrace.workloads.outcome import Outcome
from cowtrace.workloads.region import REGION_END, REGION_START
from cowtrace.workloads.workload import WORKLOADS

Tracers = dict[str, tracer.Tracer]
NAMES = [name for name in WORKLOADS if name not in paths.NAMES]
RUNS = 5
FIRSTS = 23
FEW_PAGES = 3
PLACES_BYTES = 24  # struct places
ATTEMPTS = 3


@pytest.fixture(scope="module")
def tracers() -> Iterator[Tracers]:
    """By name. Attached once, since that takes seconds under emulation; PIDs keep runs apart."""
    region = (REGION_START, REGION_END)
    with ExitStack() as stack:
        yield attached(stack, region=region)


@pytest.mark.vm
@pytest.mark.parametrize(
    "pages", [pytest.param(PRIME_PAGES, marks=pytest.mark.spread("5.10", "7.2")), MANY_PAGES]
)
@pytest.mark.parametrize("name", NAMES)
def test_every_plan_counts_what_pagemap_says(tracers: Tracers, name: str, pages: int) -> None:
    outcome = run_forked(name, pages)
    snapshots = {plan: live.snapshot() for plan, live in tracers.items()}
    if preemptible():  # these two may lose faults there, and must report how many
        for plan in {plan for plan in snapshots if not plan.startswith("kprobe")}:
            assert unaccounted(outcome, snapshots.pop(plan)) == []
    wrong = {plan: problems(outcome, snapshot) for plan, snapshot in snapshots.items()}
    assert wrong == {plan: [] for plan in snapshots}
    for one, other in itertools.combinations(snapshots.values(), 2):
        assert disagreements(outcome, one, other) == []


@pytest.mark.vm
@pytest.mark.spread("6.1", "6.12")
@pytest.mark.parametrize("time", range(1, FIRSTS + 1))
def test_the_first_fault_after_attaching_is_found(tracers: Tracers, time: int) -> None:
    """Where struct vm_fault lies on the stack is not known yet: bpf/find_fault.h."""
    at_changes = {plan: live for plan, live in tracers.items() if "places" in live._loaded.maps}
    assert at_changes or os.uname().machine != "x86_64"  # elsewhere where faults end
    for live in at_changes.values():
        bpf_maps.write_element(live._loaded.maps["places"], 0, bytes(PLACES_BYTES))
    outcome = run_forked("fork-both-write", FEW_PAGES)
    check = unaccounted if preemptible() else problems
    wrong = {plan: check(outcome, live.snapshot()) for plan, live in at_changes.items()}
    assert wrong == {plan: [] for plan in at_changes}


@pytest.mark.vm
def test_wp_page_copy_agrees_fault_for_fault(tracers: Tracers) -> None:
    """Each copy by frame number passed through it, no re-mark did: where it was not inlined."""
    outcome = run_forked("fork-both-write", MANY_PAGES)
    done = tracers["kprobe, ends"].snapshot().completeness
    assert dict(done.detail).get("check failed", 0) == 0
    if "wp_page_copy" in read_kallsyms(("wp_page_copy",)):
        # A copy and a re-mark a page in this run, beside those of the runs before.
        assert done.checked >= 2 * outcome.pages
    else:
        assert done.checked == 0


@pytest.fixture(scope="module")
def live(can_trace: None) -> Iterator[tracer.Tracer]:
    """Attached once: PIDs keep the runs apart."""
    with tracer.attach("auto", region=(REGION_START, REGION_END)) as attached:
        yield attached


@pytest.mark.host
@pytest.mark.parametrize("time", range(1, RUNS + 1))
@pytest.mark.parametrize("name", NAMES)
def test_this_kernels_plan_counts_what_pagemap_says(
    live: tracer.Tracer, name: str, time: int
) -> None:
    # A preemptible kernel can skip a program, and counts that: then the trace itself says that it
    # is not complete, and the run proves nothing.
    for _ in range(ATTEMPTS):
        lost = live.snapshot().completeness.lost
        outcome = run(name, MANY_PAGES)
        snapshot = live.snapshot()
        if snapshot.completeness.lost == lost:
            break
    assert problems(outcome, snapshot, lost_before=lost) == []


def disagreements(outcome: Outcome, one: Snapshot, other: Snapshot) -> list[tuple[Row, Row]]:
    """Rows in which two plans count the same faults differently, where both can count them."""
    rows = zip(comparison(outcome, one).rows, comparison(outcome, other).rows, strict=True)
    return [
        (mine, theirs)
        for mine, theirs in rows
        if None not in (mine.traced, theirs.traced)
        and not (mine.upper_bound or theirs.upper_bound)
        and mine.traced != theirs.traced
    ]
