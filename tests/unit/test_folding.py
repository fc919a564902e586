"""Details of ended processes: the largest stay, the sums of the others stay right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from snapshots import calls, detail, mapping

from cowtrace.model import DetailRow
from cowtrace.tracer.folding import fold_rows


def test_few_stay_as_they_are() -> None:
    rows = [detail(pid) for pid in range(1, 7)]
    assert fold_rows(rows, 3) == (rows, 0)


@given(st.lists(st.integers(0, 99), max_size=40))
def test_whenever_it_is_folded_nothing_is_counted_twice(faults: list[int]) -> None:
    details: list[DetailRow] = []
    lost = 0
    for pid, count in enumerate(faults, 1):
        heap = mapping(start=pid << 20)
        more = detail(pid, faults=count, mapping=heap, user_stack=calls("main"), ns=count)
        details, folded = fold_rows([*details, more], 2)
        lost += folded
    assert sum(r.faults for r in details) == sum(faults) == sum(r.ns or 0 for r in details)
    assert lost == len(faults) - sum(r.pid != 0 for r in details)
    assert all(r.mapping is None and r.user_stack is None for r in details if r.pid == 0)
