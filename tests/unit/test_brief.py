"""Brief processes: the largest stay, the sums of the others stay right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cowtrace.model import ENDED_PID, FaultKind, Origin, Source
from cowtrace.tracer import abi
from cowtrace.tracer.brief import BriefProcesses
from cowtrace.tracer.packed import Packed

PARENT = 3
SHAREABLE = 509


def ended(start_ns: int = 1, created_by: int = 0) -> abi.Process:
    return abi.Process(PARENT, 1, start_ns, created_by, 0, b"short".ljust(16, b"\0"))


def packed(processes: dict[int, abi.Process]) -> Packed[int, abi.Process]:
    return Packed(abi.PROCESS, {pid: abi.PROCESS.pack(*info) for pid, info in processes.items()})


def copies(faults: dict[int, int]) -> dict[abi.FaultKey, abi.FaultSum]:
    """By pid."""
    return {
        abi.FaultKey(pid, 9, FaultKind.COPIED, Source.ANON, Origin.REMOTE, 1): abi.FaultSum(
            count, count * 4096
        )
        for pid, count in faults.items()
    }


def detail(pid: int, faults: int, generation: int = 0) -> tuple[abi.DetailKey, abi.DetailSum]:
    key = abi.DetailKey(
        0x1000, 5, 6, pid, generation, FaultKind.COPIED, Source.ANON, Origin.USER, 1, 3
    )
    return key, abi.DetailSum(faults, faults * 4096, faults * 100)


def fork(child: int, previous: int = 0) -> abi.Generation:
    return abi.Generation(PARENT, child, 100, 200, SHAREABLE, previous, 0)


def by_pid(sums: Iterable[tuple[Any, Any]]) -> Counter[int]:
    """Faults."""
    found: Counter[int] = Counter()
    for key, value in sums:
        found[key.tgid] += value.faults
    return found


def test_all_but_the_largest_are_summed_up() -> None:
    brief = BriefProcesses(few=2)
    faults = dict(enumerate((5, 11, 2, 7, 3), start=10))
    counted = copies(faults)
    processes = {pid: ended() for pid in faults}
    brief.choose(packed(processes), counted, known=())
    assert brief.pids == {10, 12, 14}
    sums = brief.sums(counted)
    assert by_pid(sums.items()) == {ENDED_PID: 5 + 2 + 3, 11: 11, 13: 7}
    assert {key.actor for key in sums if key.tgid == ENDED_PID} == {0}
    found = dict(brief.details(detail(pid, count) for pid, count in faults.items()))
    (rest,) = (item for item in found.items() if item[0].tgid == ENDED_PID)
    assert (rest[0].mapping, rest[0].user_stack, rest[0].kernel_stack) == (0, 0, 0)
    assert (rest[0].latency, rest[1]) == (3, abi.DetailSum(10, 10 * 4096, 1000))
    assert (len(found), brief.folded) == (3, 3)
    totals = brief.totals((pid, abi.PageFaultSum(1, 2, 3)) for pid in faults)
    assert totals[ENDED_PID] == abi.PageFaultSum(3, 6, 9)


def test_few_those_that_live_and_those_of_earlier_rounds_stay() -> None:
    brief = BriefProcesses(few=1)
    alive = ended()._replace(exited=0)
    brief.choose(packed({10: ended(), 11: alive, 12: ended(), 13: alive}), copies({}), known=[12])
    assert not brief.pids


def test_what_it_counts_after_its_end_is_summed_up_too() -> None:
    brief = BriefProcesses(few=0)
    brief.choose(packed({10: ended()}), copies({10: 5}), known=())
    assert not brief.before
    late = copies({10: 1})
    brief.choose(packed({10: ended()}), late, known=())
    assert by_pid(brief.sums(late).items()) == {ENDED_PID: 1}
    assert brief.before == {10: ended()}
    brief.choose(packed({}), copies({}), known=())
    assert not brief.pids


def test_another_process_of_its_pid_is_not_forgotten_with_it() -> None:
    brief = BriefProcesses(few=0)
    brief.choose(packed({10: ended()}), copies({}), known=())
    brief.choose(packed({10: ended(start_ns=2)._replace(exited=0)}), copies({10: 4}), known=())
    assert not brief.before
    assert by_pid(brief.sums(copies({10: 4})).items()) == {10: 4}


def test_what_the_parent_copied_after_its_fork_has_no_fork() -> None:
    brief = BriefProcesses(few=0)
    parent = abi.Process(1, 0, 1, 0, 7, b"server")
    forks = {5: fork(99), 6: fork(10), 7: fork(11, previous=6)}
    processes = {PARENT: parent, 10: ended(created_by=6), 11: ended(created_by=7)}
    brief.choose(packed(processes), copies({}), known=[PARENT])
    assert brief.forks(forks) == ({5}, set())
    found = brief.details([detail(PARENT, 4, 6), detail(PARENT, 2, 7), detail(PARENT, 1, 5)])
    assert {(k.generation, k.mapping, v.faults) for k, v in found} == {
        (0, 0x1000, 6),
        (5, 0x1000, 1),
    }
    # Until the parent forks again, or ends, its copies are of these forks.
    brief.choose(packed({PARENT: parent}), copies({}), known=[PARENT])
    assert brief.forks(forks) == ({5}, set())
    brief.choose(packed({PARENT: parent._replace(last_fork=8)}), copies({}), known=[PARENT])
    assert brief.forks(forks) == ({5}, {6, 7})
    assert brief.forks({5: forks[5]}) == ({5}, set())


@given(st.lists(st.dictionaries(st.integers(10, 30), st.integers(0, 99)), max_size=8))
def test_no_round_loses_or_adds_a_fault(rounds: list[dict[int, int]]) -> None:
    brief = BriefProcesses(few=3)
    for number, faults in enumerate(rounds, start=1):
        counted = copies(faults)
        brief.choose(packed({pid: ended(number) for pid in faults}), counted, known=range(25, 30))
        sums = brief.sums(counted)
        details = brief.details(detail(pid, count) for pid, count in faults.items())
        assert by_pid(sums.items()) == by_pid(details)
        assert by_pid(sums.items()).total() == sum(faults.values())
