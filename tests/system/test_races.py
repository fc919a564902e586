"""Threads race for pages: each change of a page-table entry is counted, and counted once."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.programs import compiled
from workload_checks import MANY_PAGES, attached

from cowtrace import tracer
from cowtrace.model import FaultKind, Snapshot
from cowtrace.workloads.oracles.proc_files import vmstat
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = pytest.mark.vm

ROUNDS = 3
CHANGES = MANY_PAGES * ROUNDS


@pytest.fixture(scope="module")
def tracers() -> Iterator[dict[str, tracer.Tracer]]:
    with ExitStack() as stack:
        found = attached(stack, region=(REGION_START, REGION_END))
        # The tracepoint plan counts attempts: an upper bound.
        yield {name: live for name, live in found.items() if name != "tracepoint"}


@pytest.fixture(scope="module")
def program() -> Iterator[str]:
    with compiled("races", Path(__file__).parent) as path:
        yield path


@dataclass
class Race:
    """What each tracer has seen, and how many pages the whole kernel re-marked meanwhile."""

    pid: int
    seen: dict[str, Snapshot]
    re_marked: int

    def counted(self, *kinds: FaultKind) -> dict[str, int]:
        """Its faults of these kinds, by tracer."""
        processes = {name: now.process(self.pid) for name, now in self.seen.items()}
        return {
            name: sum(found.count(kind) or 0 for kind in kinds) if found else 0
            for name, found in processes.items()
        }


def race(program: str, kind: str, tracers: dict[str, tracer.Tracer]) -> Race:
    before = re_marked_by_the_kernel()
    # On a file system that writes back: /tmp can be in memory.
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        command = [program, kind, str(MANY_PAGES), str(ROUNDS), file.name]
        with subprocess.Popen(command) as process:
            assert process.wait() == 0
    re_marked = re_marked_by_the_kernel() - before
    seen = {name: live.snapshot() for name, live in tracers.items()}
    return Race(process.pid, seen, re_marked)


def re_marked_by_the_kernel() -> int:
    count = vmstat("pgreuse")
    assert count is not None
    return count


def test_a_page_that_two_threads_write_is_copied_once(
    tracers: dict[str, tracer.Tracer], program: str
) -> None:
    made = race(program, "private", tracers)
    found = made.counted(FaultKind.COPIED)
    for name, copied in found.items():
        assert copied + lost(made.seen[name]) >= CHANGES >= copied, found


def test_a_page_that_its_other_holder_unmaps_is_copied_or_re_marked(
    tracers: dict[str, tracer.Tracer], program: str
) -> None:
    made = race(program, "unmapped", tracers)
    found = made.counted(FaultKind.COPIED, FaultKind.REUSED)
    for name, changes in found.items():
        assert changes + lost(made.seen[name]) >= CHANGES >= changes, found
    assert max(made.counted(FaultKind.REUSED).values()) <= made.re_marked


def test_a_page_of_a_file_is_re_marked_once_each_time_it_was_written_back(
    tracers: dict[str, tracer.Tracer], program: str
) -> None:
    made = race(program, "shared", tracers)
    assert made.re_marked >= CHANGES
    # First touches, too, which are no re-marks to the kernel.
    found = {name: n - MANY_PAGES for name, n in made.counted(FaultKind.SHARED).items()}
    for name, shared in found.items():
        if "PTE_CHANGES" in tracers[name].probe_plan.defines:
            assert shared + lost(made.seen[name]) >= CHANGES >= shared, found
        else:  # at the end of a fault, the loser's looks like the winner's
            assert shared >= CHANGES, found


def lost(snapshot: Snapshot) -> int:
    """0 but where a preemptible kernel can skip a program."""
    return snapshot.completeness.lost
