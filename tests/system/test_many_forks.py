"""Trace a hundred thousand forks: each copy is counted, and the tracer's memory stays flat."""

from __future__ import annotations

import subprocess
from collections import Counter
from statistics import median

import pytest
from bench.programs import compiled
from bench.soak import PROCESSES, Soak
from bench.variants import REGION, Missing

from cowtrace import tracer
from cowtrace.kernel.options import Detail
from cowtrace.model import COPIES, ENDED_PID
from cowtrace.tracer.brief import FEW

pytestmark = [pytest.mark.host, pytest.mark.alone, pytest.mark.usefixtures("can_trace")]

FORKS = 100_000  # three times around the process ids, where there are 32,768
BRIEF = "2003"
MOST_GROWTH_MB = 8.0  # if all were kept, they would take 200


@pytest.mark.usefixtures("can_trace")
def test_each_copy_of_100_000_forks_is_counted_in_flat_memory() -> None:
    soak = Soak()
    rounds = FORKS // PROCESSES
    try:
        with compiled("crowd") as program, tracer.attach(region=REGION) as traced:
            for _ in range(rounds):
                soak.add_round(program, traced)
    except Missing as error:
        pytest.skip(str(error))
    assert soak.expected == rounds * sum(1 + number % 7 for number in range(PROCESSES))
    assert (soak.counted, soak.lost) == (soak.expected, 0)
    assert soak.wrong == 0  # in every round the kernel's own count agrees
    resident = list(soak.resident_mb)
    # The first rounds allocate what lasts for all of them.
    assert median(resident[-5:]) < median(resident[1:6]) + MOST_GROWTH_MB, resident


@pytest.mark.vm
@pytest.mark.spread
def test_of_brief_processes_the_sums_stay() -> None:
    """The largest keep a row of their own, and the BPF maps keep none of the others."""
    details: frozenset[Detail] = frozenset({"generation", "mapping"})
    try:
        with (
            compiled("crowd") as program,
            tracer.attach(region=REGION, details=details, fold=True) as traced,
        ):
            lost = traced.snapshot().completeness.lost
            pages = pages_of(program, "short", BRIEF)
            now = [traced.snapshot() for _ in range(3)][-1]
            held = traced._rounds.read()
    except Missing as error:
        pytest.skip(str(error))
    rest = now.process(ENDED_PID)
    assert rest
    assert rest.comm == "[ended]"
    mine = [process for process in now.processes if process.pid in pages]
    assert len(mine) == FEW
    assert all(process.count(*COPIES) == pages[process.pid] for process in mine)
    assert min(p.faults for p in mine) >= 4  # nearly half of them have more
    assert sum(p.count(*COPIES) or 0 for p in (*mine, rest)) == pages.total()
    assert sum(row.faults for row in now.details if row.kind in COPIES) == pages.total()
    assert now.completeness.lost == lost
    assert held.details
    children = {fork.child for fork in held.details.generations.values()}
    owners = {tgid for tgid, _ in held.details.mappings}
    assert pages.keys().isdisjoint(held.processes.keys() | children | owners)


def pages_of(*command: str) -> Counter[int]:
    """What each process of tests/bench/crowd.c copied, by pid."""
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = (line.split() for line in said.splitlines() if line[0].isdigit())
    return Counter({int(pid): 1 + int(number) % 7 for number, pid in lines})
