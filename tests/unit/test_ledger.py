"""Rounds of counting -> processes with sums since attach."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace.kernel.plan import PlanName, ProbePlan
from cowtrace.model import FaultKind, Origin, PageFaults, Process, Source
from cowtrace.tracer import abi
from cowtrace.tracer.ledger import Ledger
from cowtrace.tracer.rounds import Round

REDIS = abi.Process(1, 0, 123, 0, 0, b"redis\0junk")
ANON_COPY = abi.FaultKey(7, 0, FaultKind.COPIED, Source.ANON, Origin.USER, 0)


def ledger(plan: PlanName = "kprobe", *, page_faults: bool = False, **limits: Any) -> Ledger:
    unseen = limits.get("unseen", frozenset())
    return Ledger(ProbePlan(plan, (), {}, unseen, ()), page_faults=page_faults)


def counts(
    sums: dict[abi.FaultKey, tuple[int, int]] | None = None,
    processes: dict[int, abi.Process] | None = None,
    page_faults: dict[int, tuple[int, int, int]] | None = None,
) -> Round:
    return Round(
        1 << 40,
        (1 << 40, 1 << 40),
        0,
        {key: abi.FaultSum(*value) for key, value in (sums or {}).items()},
        None
        if page_faults is None
        else {pid: abi.PageFaultSum(*value) for pid, value in page_faults.items()},
        {7: REDIS} if processes is None else processes,
    )


def only(book: Ledger) -> Process:
    (process,) = book.processes()
    return process


def test_rounds_add_up_to_typed_rows() -> None:
    book = ledger()
    remote = abi.FaultKey(7, 9, FaultKind.COPIED, Source.ANON, Origin.REMOTE, 0)
    book.add(counts({ANON_COPY: (20, 20 * 4096), remote: (2, 2 * 4096)}))
    book.add(counts({ANON_COPY: (3, 3 * 4096)}))
    redis = only(book)
    assert (redis.pid, redis.comm, redis.parent, redis.exited) == (7, "redis", 1, False)
    assert redis.count(FaultKind.COPIED) == 25 == redis.faults
    assert redis.copied_bytes == 25 * 4096
    assert [row.actor for row in redis.rows if row.origin is Origin.REMOTE] == [9]


def test_what_did_not_change_is_the_same_object() -> None:
    book = ledger()
    book.add(counts({ANON_COPY: (20, 20 * 4096)}))
    before = only(book)
    book.add(counts())
    assert only(book) is before
    assert (book.round, before.changed_in) == (2, 1)
    book.add(counts({ANON_COPY: (1, 4096)}))
    assert only(book).faults == 21
    assert (book.round, only(book).changed_in) == (3, 3)


@given(st.lists(st.integers(0, 50), max_size=12))
def test_no_fault_is_lost_between_rounds(rounds: list[int]) -> None:
    book = ledger()
    for faults in rounds:
        book.add(counts({ANON_COPY: (faults, faults * 4096)}))
    assert sum(process.faults for process in book.processes()) == sum(rounds)


def test_what_a_plan_cannot_see_is_missing_not_0() -> None:
    book = ledger(unseen=frozenset({FaultKind.SHARED}))
    book.add(counts({ANON_COPY: (1, 4096)}))
    assert only(book).count(FaultKind.SHARED) is None
    assert only(book).count(FaultKind.REUSED) == 0
    assert only(book).page_faults is None


def test_totals_of_page_faults_add_up() -> None:
    book = ledger(page_faults=True)
    book.add(counts(page_faults={7: (40, 3, 30)}))
    book.add(counts(page_faults={7: (2, 1, 1)}))
    assert only(book).page_faults == PageFaults(user=42, kernel=4, write_protect=31)


def test_an_ended_process_is_kept_and_forgotten_one_round_later() -> None:
    book = ledger()
    ended = abi.Process(1, 1, 123, 0, 0, b"redis")
    assert book.add(counts({ANON_COPY: (5, 5 * 4096)}, {7: ended})) == {}
    assert only(book).exited
    assert book.add(counts({ANON_COPY: (1, 4096)}, {7: ended})) == {7: ended}
    assert (only(book).pid, only(book).faults, only(book).exited) == (7, 6, True)
    assert book.add(counts({}, {})) == {}
    assert only(book).faults == 6


def test_a_pid_that_comes_back_is_another_process() -> None:
    book = ledger()
    book.add(counts({ANON_COPY: (5, 5 * 4096)}, {7: abi.Process(1, 1, 123, 0, 0, b"first")}))
    book.add(counts({ANON_COPY: (2, 2 * 4096)}, {7: abi.Process(1, 0, 456, 0, 0, b"second")}))
    first, second = book.processes()
    assert (first.comm, first.exited, first.faults) == ("first", True, 5)
    assert (second.comm, second.exited, second.faults) == ("second", False, 2)


def test_a_pid_that_comes_back_and_ends_at_once_has_its_round_too() -> None:
    book = ledger()
    book.add(counts({}, {7: abi.Process(1, 1, 100, 0, 0, b"first")}))
    # the second one has ended as well, and its counts are those of a round that is not over
    assert book.add(counts({}, {7: abi.Process(1, 1, 200, 0, 0, b"second")})) == {}
    book.add(counts({ANON_COPY: (3, 3 * 4096)}, {7: abi.Process(1, 1, 200, 0, 0, b"second")}))
    assert [(p.comm, p.faults) for p in book.processes()] == [("first", 0), ("second", 3)]


@pytest.mark.parametrize("comm", [b"\xff\x1b[31m", b"", b"x" * 16])
def test_names_are_whatever_the_process_wrote(comm: bytes) -> None:
    book = ledger()
    book.add(counts({}, {7: abi.Process(0, 0, 1, 0, 0, comm)}))
    assert only(book).comm == comm.decode(errors="backslashreplace")
    assert only(book).parent is None


def test_what_has_ended_can_be_forgotten_once_it_was_shown() -> None:
    book = ledger()
    ended = abi.Process(1, 1, 123, 0, 0, b"redis")
    alive = abi.Process(1, 0, 124, 0, 0, b"alive")
    other = abi.FaultKey(8, 0, FaultKind.COPIED, Source.ANON, Origin.USER, 0)
    for _ in range(2):
        book.add(counts({ANON_COPY: (1, 4096), other: (1, 4096)}, {7: ended, 8: alive}))
    assert [process.pid for process in book.processes()] == [7, 8]
    book.forget_ended()
    assert [(p.pid, p.faults) for p in book.processes()] == [(8, 2)]


def test_what_has_ended_can_be_folded() -> None:
    book = ledger(page_faults=True)
    for pid in range(7, 17):
        ended = {pid: abi.Process(1, 1, pid, 0, 0, b"short")}
        remote = ANON_COPY._replace(tgid=pid, actor=9, origin=Origin.REMOTE)
        sums = {ANON_COPY._replace(tgid=pid): (pid, pid * 4096), remote: (1, 4096)}
        book.add(counts(sums, ended, {pid: (pid, 1, pid)}))
        book.add(counts({}, ended))
    few = book.processes()
    book.fold_ended(5)
    assert book.processes() == few
    book.fold_ended(3)
    *kept, rest = book.processes()
    assert [p.pid for p in kept] == [14, 15, 16]
    assert (rest.pid, rest.comm, rest.exited) == (0, "[ended]", True)
    assert (rest.faults, rest.copied_bytes) == (70 + 7, 77 * 4096)
    assert rest.page_faults == PageFaults(70, 7, 70)
    assert {row.actor for row in rest.rows} == {None}
    book.add(counts({ANON_COPY._replace(tgid=0): (5, 5 * 4096)}, {}))
    assert [(p.pid, p.faults) for p in book.processes()][-1] == (0, 82)


def test_the_kernel_takes_back_below_0_modulo_2_to_the_64() -> None:
    key = ANON_COPY._replace(kind=FaultKind.REUSED)
    book = ledger()
    book.add(counts({key: (10, 0)}))
    book.add(counts({key: ((1 << 64) - 3, 0)}))
    assert only(book).count(FaultKind.REUSED) == 7
