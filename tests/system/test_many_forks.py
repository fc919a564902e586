"""Trace a hundred thousand forks: each copy is counted, and the tracer's memory stays flat."""

from __future__ import annotations

from statistics import median

import pytest
from bench.programs import compiled
from bench.soak import PROCESSES, Soak
from bench.variants import REGION, Missing

from cowtrace import tracer

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("can_trace")]

FORKS = 100_000  # three times around the process ids, where there are 32,768
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
