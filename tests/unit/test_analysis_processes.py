"""analysis/processes.py: which rows, in which order, with which rates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import PAGE, detail, fork, process, row, snapshot

from cowtrace.analysis.processes import SORT_KEYS, per_second, rows
from cowtrace.model import ENDED_PID, FaultKind, Process


def copying(pid: int, pages: int, **fields: object) -> Process:
    return process(pid, f"p{pid % 3}", row(FaultKind.COPIED, pages), **fields)  # type: ignore[arg-type]


def test_a_rate_is_that_of_what_changed() -> None:
    same, busy = copying(1, 23), copying(2, 23)
    now = snapshot(same, copying(2, 30), copying(3, 5), at=3)
    rates = per_second(now, snapshot(same, busy, at=1))
    assert rates == {(2, None): 7 * PAGE / 2, (3, None): 5 * PAGE / 2}


def test_what_ended_before_adds_to_the_sum_of_ended_ones_without_a_rate() -> None:
    before = snapshot(copying(ENDED_PID, 5), copying(8, 11), copying(9, 23), at=1)
    now = snapshot(copying(ENDED_PID, 5 + 11 + 7), copying(9, 23), at=2)
    assert per_second(now, before)[ENDED_PID, None] == 7 * PAGE


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


def test_kinds_of_which_the_plan_sees_one_have_a_count() -> None:
    unseen = frozenset({FaultKind.FILE_COPIED})
    one = process(1, "a", row(FaultKind.COPIED, 23), unseen=unseen)
    assert one.count(FaultKind.COPIED, FaultKind.FILE_COPIED) == 23
    assert one.count(FaultKind.FILE_COPIED) is None


def test_what_is_taken_back_has_no_rate_below_0() -> None:
    before = snapshot(process(1, "a", row(FaultKind.COPIED, 23)), at=1)
    now = snapshot(process(1, "a", row(FaultKind.COPIED, 20)), at=2)
    assert set(per_second(now, before).values()) <= {0}


def test_no_more_than_all_of_the_sharing_is_lost() -> None:
    assert fork(shareable=10, by_child=23).share_lost == 1.0


def test_the_newest_process_of_a_pid() -> None:
    now = snapshot(process(1, "old", start_ns=1, exited=True), process(1, "new", start_ns=2))
    assert (found := now.process(1)) is not None
    assert found.comm == "new"


def test_samples_are_those_of_the_chosen_processes() -> None:
    now = replace(snapshot(process(1, "a"), process(2, "b")), samples=(detail(1), detail(2)))
    assert now.only([now.processes[1]]).samples == (detail(2),)
