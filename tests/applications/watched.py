"""Trace what the tests start, by every plan at once: one run of an application serves all."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import pytest

from cowtrace import tracer
from cowtrace.kernel.options import Detail
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

    def supports(self, plan: str, detail: Detail) -> bool:
        """Whether this plan records that detail here; else it must be absent from every row."""
        return detail in self.tracers[plan].probe_plan.details


def no_mapping(snapshot: Snapshot) -> bool:
    """Whether no row has a mapping, as with a plan that does not support them (5.10)."""
    return {row.mapping for row in snapshot.details} == {None}


def need(program: str, package: str) -> None:
    """Skip without the program; in the VM, a skip is a failure."""
    if shutil.which(program) is None:
        pytest.skip(f"{package} is not installed: apt install {package}")


def uncertain_bytes(snapshot: Snapshot) -> int:
    """Bytes by which the sum of copies can be wrong, according to the trace itself.

    A missed fault is not counted, or makes another fault count as the wrong kind.
    """
    return 2 * snapshot.completeness.lost * PAGE_BYTES


def fork_of(snapshot: Snapshot, child: int) -> ForkGeneration:
    """The fork that created this process."""
    return next(g for g in reversed(snapshot.generations) if g.child == child)
