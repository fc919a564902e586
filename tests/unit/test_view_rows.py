"""analysis/processes.py: which rows, in which order, with which rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import PAGE, process, row, snapshot

from cowtrace.analysis.processes import SORT_KEYS, rows
from cowtrace.analysis.rates import per_second
from cowtrace.model import FaultKind, Process


def copying(pid: int, pages: int, **fields: object) -> Process:
    return process(pid, f"p{pid % 3}", row(FaultKind.COPIED, pages), **fields)  # type: ignore[arg-type]


def test_a_rate_is_that_of_what_changed() -> None:
    same, busy = copying(1, 23), copying(2, 23)
    now = snapshot(same, copying(2, 30), copying(3, 5), at=3)
    rates = per_second(now, snapshot(same, busy, at=1))
    assert rates == {(2, None): 7 * PAGE / 2, (3, None): 5 * PAGE / 2}


def test_a_pid_that_came_back_has_a_rate_of_its_own() -> None:
    first = copying(7, 1000, exited=True, start_ns=1)
    before = snapshot(first, at=1)
    (new, old) = rows(snapshot(first, copying(7, 23, start_ns=2), at=2), before)
    assert (old.exited, old.rate, new.exited, new.rate) == (True, 0, False, 23 * PAGE)


@pytest.mark.parametrize("sort", SORT_KEYS)
@given(
    pages=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12),
    limit=st.integers(1, 9),
)
def test_the_first_rows_are_those_of_all(
    sort: str, pages: list[tuple[int, int]], limit: int
) -> None:
    before = snapshot(*(copying(pid, a) for pid, (a, _) in enumerate(pages, 1)), at=1)
    now = snapshot(*(copying(pid, a + b) for pid, (a, b) in enumerate(pages, 1)), at=2)
    every = rows(now, before, sort=sort)
    assert len(every) == sum(a + b > 0 for a, b in pages)
    assert rows(now, before, sort=sort, limit=limit) == every[:limit]
