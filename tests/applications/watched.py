"""Tracers of all that the test starts, one a plan: the same run of an application serves all."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import pytest

from cowtrace import tracer
from cowtrace.kernel.plan import Detail
from cowtrace.model import ForkGeneration, Snapshot
from cowtrace.tracer.filter import Filter
from cowtrace.workloads.region import PAGE_BYTES

DETAILS: frozenset[Detail] = frozenset({"generation", "mapping", "latency"})
MIB = 1 << 20
OURS = Filter(pids=(os.getpid(),), follow=True)  # what this test process starts


@dataclass(frozen=True)
class Watched:
    """Attached for all applications: each has pids of its own."""

    tracers: dict[str, tracer.Tracer]

    def look(self) -> dict[str, Snapshot]:
        """A snapshot by each plan, one after the other: the application had better be quiet."""
        return {plan: live.snapshot() for plan, live in self.tracers.items()}

    def tells(self, plan: str, detail: Detail) -> bool:
        """Whether this plan can tell that here; else it must be missing in every row."""
        return detail in self.tracers[plan].probe_plan.details


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
