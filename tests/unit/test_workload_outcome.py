"""Known counts: the expected tables, sums of what pagemap shows, and their JSON."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace.model import FaultKind
from cowtrace.workloads import forks, mappings
from cowtrace.workloads.outcome import (
    KINDS,
    Counts,
    Expected,
    Observed,
    Outcome,
    of_thread,
    outcome_from_json,
)
from cowtrace.workloads.workload import WORKLOADS

# Written out by hand: {workload: {role: counts that are not 0, for 23 pages}}
TABLE: dict[str, dict[str, dict[str, Any]]] = {
    "fork-child-writes": {"parent": {}, "child": {"copied": 23}},
    "fork-parent-writes": {"parent": {"copied": 23}, "child": {}},
    "fork-both-write": {"parent": {"reused": 23}, "child": {"copied": 23}},
    "fork-read-only": {"parent": {}, "child": {}},
    "parent-after-child-exit": {"parent": {"reused": 23}, "child": {}},
    "one-byte-per-page": {"parent": {}, "child": {"copied": 23}},
    "whole-page": {"parent": {}, "child": {"copied": 23}},
    "two-generations": {
        "parent": {"reused": 23},
        "child": {"copied": 23},
        "grandchild": {"copied": 23},
    },
    "threads-race": {"parent": {}, "child": {"copied": 23}},
    "sixteen-children": {"parent": {}, "child": {"copied": 23}},
    "zero-page": {"parent": {"zero_filled": 23}},
    "shared-writes": {"parent": {"shared": 23}, "child": {"shared": 23}},
    "private-file-first-write": {"parent": {}, "child": {"file_copied": 23}},
    "private-file-read-then-write": {"parent": {}, "child": {"copied": 23}},
}

maybe = st.none() | st.integers(0, 10**12)
counts = st.builds(Counts, maybe, maybe, maybe, maybe, maybe)


def test_the_table_has_every_workload() -> None:
    simple = (forks.__name__, mappings.__name__)
    assert set(TABLE) == {n for n, known in WORKLOADS.items() if known.act.__module__ in simple}


@pytest.mark.parametrize("name", TABLE)
def test_expected(name: str) -> None:
    wanted = tuple(Expected(role=role, **some) for role, some in TABLE[name].items())
    assert WORKLOADS[name].expected(23) == wanted


@pytest.mark.parametrize("name", TABLE)
def test_expected_scales_with_the_pages(name: str) -> None:
    for few, many in zip(
        WORKLOADS[name].expected(23), WORKLOADS[name].expected(23 * 7), strict=True
    ):
        assert [7 * (few.of(kind) or 0) for kind in KINDS] == [many.of(kind) for kind in KINDS]


def test_summaries_are_one_line_of_80_columns() -> None:
    for workload in WORKLOADS.values():
        assert workload.summary
        assert "\n" not in workload.summary
        assert len(workload.summary) <= 80


def test_an_unknown_count_is_not_zero_in_a_sum() -> None:
    assert (Counts(copied=1) + Counts(copied=2, shared=None)) == Counts(copied=3, shared=None)


@given(counts, counts)
def test_a_sum_is_kind_by_kind(one: Counts, other: Counts) -> None:
    for kind in KINDS:
        of_one, of_other = one.of(kind), other.of(kind)
        known = of_one is not None and of_other is not None
        assert (one + other).of(kind) == (of_one + of_other if known else None)  # type: ignore[operator]


def test_of_names_the_fields_in_the_order_of_kinds() -> None:
    assert [Counts(1, 2, 3, 4, 5).of(kind) for kind in KINDS] == [1, 2, 3, 4, 5]
    assert Counts(file_copied=7).of(FaultKind.FILE_COPIED) == 7


@given(pagemap=st.none() | counts, right=st.booleans(), copied=st.integers(0, 99))
def test_an_outcome_survives_json(pagemap: Counts | None, right: bool, copied: int) -> None:
    process = Observed("child", 7, Expected(role="child", copied=copied), pagemap, 1, 2, right)
    found = ("what this kernel does",)
    outcome = Outcome("fork-child-writes", 23, 4096, (process, process), findings=found)
    assert outcome_from_json(outcome.to_json()) == outcome
    assert outcome.data_right is right


def test_time_per_page_is_none_without_a_write() -> None:
    process = Observed("child", 7, Expected(role="child"), None, 0, 0, True)
    assert process.ns_per_page is None
    assert Observed("child", 7, Expected(role="child"), None, 46, 23, True).ns_per_page == 2


@pytest.mark.parametrize(
    ("expected", "observed", "ok"),
    [
        (127, 127, True),
        (127, 126, False),
        (127, 128, None),  # a stray fault of the interpreter's own
        (0, 3, None),
        (0, 4, False),
        (None, 5, None),
        (5, None, None),
    ],
)
def test_a_count_of_a_whole_thread_may_hold_a_stray_fault(
    expected: int | None, observed: int | None, ok: bool | None
) -> None:
    assert of_thread(expected, observed) is ok
