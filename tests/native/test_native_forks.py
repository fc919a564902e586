"""A hundred thousand forks under one tracer: each copy is counted, and its memory stays flat."""

from __future__ import annotations

from statistics import median

import pytest
from bench.programs import compiled
from bench.soak import PROCESSES, one_round
from bench.variants import REGION, Missing

from cowtrace import tracer

FORKS = 100_000  # three times around the process ids, where there are 32,768
MOST_GROWTH_MB = 8.0  # kept, they would take 200


@pytest.mark.usefixtures("can_trace")
def test_each_copy_of_100_000_forks_is_counted_in_flat_memory() -> None:
    try:
        with compiled("crowd") as program, tracer.attach(region=REGION) as traced:
            rounds = [one_round(program, traced) for _ in range(FORKS // PROCESSES)]
    except Missing as error:
        pytest.skip(str(error))
    pages = sum(1 + number % 7 for number in range(PROCESSES))
    assert {each.expected for each in rounds} == {pages}
    assert {each.page_faults for each in rounds} == {pages}  # the kernel saw these, and no other
    assert [each.counted for each in rounds] == [pages] * len(rounds)
    assert [each.lost for each in rounds] == [0] * len(rounds)
    resident = [each.resident_mb for each in rounds]
    # The first ones make what is made once.
    assert median(resident[-5:]) < median(resident[1:6]) + MOST_GROWTH_MB, resident
