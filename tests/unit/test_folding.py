"""Ended processes: the largest stay, the sums of the others stay right."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from snapshots import calls, detail, mapping, process, row

from cowtrace.model import DetailRow, FaultKind, Origin, PageFaults, Process
from cowtrace.tracer.folding import fold_processes, fold_rows


def ended(pid: int, faults: int) -> Process:
    remote = replace(row(FaultKind.COPIED, 1), origin=Origin.REMOTE, actor=9)
    rows = row(FaultKind.COPIED, faults), row(FaultKind.REUSED, 2), remote
    return process(pid, "one", *rows, exited=True, page_faults=PageFaults(faults, 1, faults))


def test_few_stay_as_they_are() -> None:
    few = [ended(pid, pid) for pid in range(1, 7)]
    assert fold_processes(few, 3) is few
    rows = [detail(pid) for pid in range(1, 7)]
    assert fold_rows(rows, 3) == (rows, 0)


def test_the_largest_stay_in_their_order_and_all_sums_stay_right() -> None:
    many = [ended(pid, faults) for pid, faults in enumerate((5, 11, 2, 7, 3, 13, 1), 1)]
    rest, *kept = fold_processes(many, 3)
    assert [(p.pid, p.faults) for p in kept] == [(2, 14), (4, 10), (6, 16)]
    assert (rest.pid, rest.comm, rest.exited, rest.changed_in) == (0, "[ended]", True, 0)
    assert (rest.count(FaultKind.COPIED), rest.count(FaultKind.REUSED)) == (5 + 2 + 3 + 1 + 4, 8)
    assert rest.copied_bytes == sum(p.copied_bytes for p in many if p not in kept)
    assert rest.page_faults == PageFaults(11, 4, 11)


@given(st.lists(st.integers(0, 99), max_size=40))
def test_whenever_it_is_folded_nothing_is_counted_twice(faults: list[int]) -> None:
    kept: list[Process] = []
    details: list[DetailRow] = []
    lost = 0
    for pid, count in enumerate(faults, 1):
        kept = fold_processes([*kept, ended(pid, count)], 2)
        heap = mapping(start=pid << 20)
        more = detail(pid, faults=count, mapping=heap, user_stack=calls("main"), ns=count)
        details, folded = fold_rows([*details, more], 2)
        lost += folded
    assert len(kept) <= 5
    assert sum(p.faults for p in kept) == sum(faults) + 3 * len(faults)
    assert sum(r.faults for r in details) == sum(faults) == sum(r.ns or 0 for r in details)
    assert lost == len(faults) - sum(r.pid != 0 for r in details)
    assert all(r.mapping is None and r.user_stack is None for r in details if r.pid == 0)
