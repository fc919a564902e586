"""Trace known faults: check generations, mappings, stacks, latency and events.

Every plan is attached at the same time, in turn with its own options, and the same runs serve all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from detail_checks import PRIME_PAGES, generation, kinds, problems, unmapped
from workload_checks import plans

from cowtrace import tracer
from cowtrace.kernel.options import Detail
from cowtrace.kernel.preemption import preemptible
from cowtrace.model import Ending, Event, FaultKind, Snapshot
from cowtrace.workloads import run_forked
from cowtrace.workloads.outcome import Outcome
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [pytest.mark.vm, pytest.mark.spread("5.10", "6.12")]

DETAILS: frozenset[Detail] = frozenset({"generation", "mapping", "stack", "latency", "tlb-flush"})
# On a preemptible kernel the other two may lose faults: they are checked on other kernels.
EXACT = [plan for plan in plans() if plan == "kprobe" or not preemptible()]

Tracers = dict[str, tracer.Tracer]


@pytest.fixture(scope="module")
def tracers() -> Iterator[Tracers]:
    region = (REGION_START, REGION_END)
    with ExitStack() as stack:
        yield {
            plan: stack.enter_context(
                tracer.attach(plan, region=region, details=DETAILS, events=True, samples=True)
            )
            for plan in EXACT
        }


@pytest.fixture(scope="module")
def traced(tracers: Tracers) -> tuple[Outcome, dict[str, list[Event]], dict[str, Snapshot]]:
    """The child writes all pages, then the parent: copies there, re-marks here."""
    outcome = run_forked("fork-both-write", PRIME_PAGES)
    events = {
        plan: [*live.events(0), *live.events(0), *live.events(0)] for plan, live in tracers.items()
    }
    return outcome, events, {plan: live.snapshot() for plan, live in tracers.items()}


Traced = tuple[Outcome, dict[str, list[Event]], dict[str, Snapshot]]


def test_details_add_up_to_the_counts(traced: Traced) -> None:
    outcome, _, snapshots = traced
    for plan, snapshot in snapshots.items():
        assert problems(outcome, snapshot) == [], plan
        assert snapshot.completeness.causes == (), plan


def test_the_childs_copies_are_attributed_to_its_generation(traced: Traced) -> None:
    outcome, _, snapshots = traced
    parent, child = (process.pid for process in outcome.processes)
    for plan, snapshot in snapshots.items():
        fork = generation(outcome, snapshot)
        assert (fork.parent, fork.child) == (parent, child), plan
        assert fork.child_copied_bytes == PRIME_PAGES * outcome.page_bytes, plan
        assert fork.parent_copied_bytes == 0, plan
        assert fork.shareable_bytes is not None
        assert fork.shareable_bytes >= PRIME_PAGES * outcome.page_bytes, plan
        assert fork.ended_by is Ending.EXIT, plan


def test_copies_lie_in_the_mapping_that_was_written(traced: Traced, tracers: Tracers) -> None:
    outcome, _, snapshots = traced
    for plan, snapshot in snapshots.items():
        if "mapping" in tracers[plan].probe_plan.details:
            assert unmapped(outcome, snapshot) == [], plan
        else:
            assert plan == "tracepoint"  # before 6.1, which keeps its mappings in another tree


def test_every_copy_has_a_stack_and_no_re_mark_has(traced: Traced) -> None:
    outcome, _, snapshots = traced
    pids = {process.pid for process in outcome.processes}
    for plan, snapshot in snapshots.items():
        rows = [row for row in snapshot.details if row.pid in pids and row.faults]
        with_stack = kinds(row for row in rows if row.user_stack)
        assert set(with_stack) == {(outcome.processes[1].pid, FaultKind.COPIED)}, plan
        assert with_stack.total() == PRIME_PAGES, plan


def test_samples_stand_for_the_copies(traced: Traced) -> None:
    outcome, _, snapshots = traced
    child = outcome.processes[1].pid
    for plan, snapshot in snapshots.items():
        rows = [row for row in snapshot.samples if row.pid == child]
        # Those after the last sample of a CPU wait for the next one.
        assert 0.9 * PRIME_PAGES < sum(row.faults for row in rows) <= PRIME_PAGES, plan
        assert all(len(row.user_stack or ()) >= 3 for row in rows), plan


def test_every_fault_has_a_duration_in_its_bucket(traced: Traced, tracers: Tracers) -> None:
    outcome, _, snapshots = traced
    pids = {process.pid for process in outcome.processes}
    for plan, snapshot in snapshots.items():
        rows = [row for row in snapshot.details if row.pid in pids and row.faults]
        if "latency" not in tracers[plan].probe_plan.details:
            assert plan == "tracepoint"  # it sees no fault's end
            assert {row.ns for row in rows} == {None}
            continue
        for row in rows:
            assert row.latency is not None
            assert row.ns is not None
            assert row.faults << row.latency <= row.ns < row.faults << row.latency + 1, plan


def test_a_copy_flushes_the_tlb_and_a_re_mark_does_not(traced: Traced, tracers: Tracers) -> None:
    outcome, _, snapshots = traced
    parent, child = (process.pid for process in outcome.processes)
    for plan, snapshot in snapshots.items():
        rows = [row for row in snapshot.details if row.pid in (parent, child) and row.faults]
        if "tlb-flush" not in tracers[plan].probe_plan.details:
            assert {row.tlb_flush_ns for row in rows} == {None}
            continue
        assert plan == "fentry"
        for row in rows:
            assert row.ns is not None
            assert row.tlb_flush_ns is not None
            if row.kind is FaultKind.COPIED:
                assert 0 < row.tlb_flush_ns < row.ns
            else:
                assert row.tlb_flush_ns == 0


def test_each_fault_is_one_event(traced: Traced) -> None:
    outcome, events, _ = traced
    parent, child = (process.pid for process in outcome.processes)
    pages = range(REGION_START, REGION_START + PRIME_PAGES * outcome.page_bytes, outcome.page_bytes)
    for plan, found in events.items():
        for pid, kind in ((child, FaultKind.COPIED), (parent, FaultKind.REUSED)):
            mine = [event for event in found if event.pid == pid]
            assert {event.kind for event in mine} == {kind}, plan
            addresses = sorted(event.address & -outcome.page_bytes for event in mine)
            assert addresses == list(pages), plan
