"""Tracers of all that the test starts, one a plan: the same run of an application serves all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from cowtrace import tracer
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.plan import PLAN_NAMES, Detail
from cowtrace.kernel.preemption import preemptible
from cowtrace.model import ForkGeneration, Snapshot
from cowtrace.tracer.filter import Filter
from cowtrace.workloads.region import PAGE_BYTES

DETAILS: frozenset[Detail] = frozenset({"generation", "mapping", "latency"})
MIB = 1 << 20
OURS = Filter(pids=(os.getpid(),), follow=True)  # what this test process starts


@dataclass(frozen=True)
class Watched:
    """Attached for all tests of a module: every application has pids of its own."""

    tracers: dict[str, tracer.Tracer]

    def look(self) -> dict[str, Snapshot]:
        """A snapshot by each plan, one after the other: the application had better be quiet."""
        return {plan: live.snapshot() for plan, live in self.tracers.items()}

    def tells(self, plan: str, detail: Detail) -> bool:
        """Whether this plan can tell that here; else it must be missing in every row."""
        return detail in self.tracers[plan].probe_plan.details


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """Every plan that runs here; skips, with the reason, where none does.

    On a preemptible kernel only kprobes lose nothing. Another plan is taken where they are
    missing: what it says is lost is then allowed for, see `astray`.
    """
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    exact = [plan for plan in PLAN_NAMES if plan == "kprobe" or not preemptible()]
    with ExitStack() as stack:
        tracers: dict[str, tracer.Tracer] = {}
        refused = ""
        for plan in (*exact, "auto"):
            if plan == "auto" and tracers:
                break
            try:
                live = tracer.attach(plan, details=DETAILS, only=OURS)
            except CowtraceError as error:
                if error.exit_code != EXIT_NO_PLAN:
                    raise
                refused = str(error)
                continue
            tracers[live.plan] = stack.enter_context(live)
        if not tracers:
            pytest.skip(f"this machine: {refused}")
        yield Watched(tracers)


def no_mapping(snapshot: Snapshot) -> bool:
    """Whether no row has one: what a plan that cannot find them, as on 5.10, must show."""
    return {row.mapping for row in snapshot.details} == {None}


def need(program: str, package: str) -> None:
    """Skips without it; in the VM, where nothing may be skipped, that fails."""
    if shutil.which(program) is None:
        pytest.skip(f"{package} is not installed: apt install {package}")


def astray(snapshot: Snapshot) -> int:
    """Bytes by which what was copied can be off, as the trace itself says.

    A fault that was missed is uncounted, or makes another one count as the wrong kind.
    """
    return 2 * snapshot.completeness.lost * PAGE_BYTES


def birth(snapshot: Snapshot, child: int) -> ForkGeneration:
    """The fork that made this process."""
    return next(g for g in reversed(snapshot.generations) if g.child == child)
