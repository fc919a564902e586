"""Whose symbols name a stack, when its process is there, and when it is not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from cowtrace.model import Stack, StackFrame, WriteCause
from cowtrace.proc import has_memory
from cowtrace.tracer import abi, stack_symbols
from cowtrace.tracer.stack_symbols import REST, Explanation, Symbols
from cowtrace.tracer.symbolizer_replies import Explained

GONE = 4_000_000_000  # no pid
GONE_TOO = GONE + 1


def process(parent: int, created_by: int) -> abi.Process:
    return abi.Process(parent, 1, 1, created_by, 0, b"worker")


class Noted:
    """A symbolizer that only notes what it is asked."""

    def __init__(self) -> None:
        self.rounds = 0
        self.asked: list[tuple[object, object]] = []

    def new_round(self) -> None:
        self.rounds += 1

    def kernel_stack(self, addresses: Sequence[int]) -> Stack:
        return tuple(StackFrame("kernel", "[kernel]", at) for at in addresses)

    def user_stack(self, addresses: Sequence[int], family: object, living: object) -> Stack:
        self.asked.append((family, living))
        return tuple(StackFrame("user", "", at) for at in addresses)


def symbols(*addresses: int) -> tuple[Symbols, Noted]:
    noted = Noted()
    return Symbols(lambda number: addresses or None, noted), noted  # type: ignore[arg-type]


def test_a_living_process_names_its_own() -> None:
    stacks, noted = symbols(23)
    assert stacks.stack(1, os.getpid(), {}) == (StackFrame("user", "", 23),)
    assert noted.asked == [(((os.getpid(), 0),), 0)]


def test_the_kernel_has_no_pid() -> None:
    stacks, noted = symbols(23)
    assert stacks.stack(1, None, {}) == (StackFrame("kernel", "[kernel]", 23),)
    assert noted.asked == []


def test_a_child_that_ended_is_named_by_the_memory_it_was_forked_from() -> None:
    me = os.getpid()
    family = {GONE: process(GONE_TOO, 4), GONE_TOO: process(me, 3)}
    stacks, noted = symbols(23)
    stacks.stack(1, GONE, family)
    assert noted.asked == [(((GONE, 1), (GONE_TOO, 1), (me, 0)), 2)]


def test_after_exec_the_parent_knows_nothing() -> None:
    stacks, noted = symbols(23)
    stacks.stack(1, GONE, {GONE: process(os.getpid(), 0)})
    assert noted.asked == [(((GONE, 1),), None)]


def test_a_stack_that_was_not_kept_is_missing() -> None:
    assert symbols()[0].stack(1, os.getpid(), {}) is None


def test_a_round_has_its_own_view_of_who_lives() -> None:
    stacks, noted = symbols(23)
    with subprocess.Popen(["sleep", "60"]) as child:
        first = {child.pid: process(os.getpid(), 0)}
        for _ in range(3):
            stacks.stack(1, child.pid, first)
        child.kill()
    stacks.stack(1, child.pid, dict(first))
    assert noted.rounds == 2
    assert [living for _, living in noted.asked] == [0, 0, 0, None]


def test_stacks_without_end_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_symbols, "_MOST_FRAMES", 6)
    noted: Any = Noted()
    stacks = Symbols(lambda number: (number, number), noted)
    found = [stacks.stack(number, os.getpid(), {}) for number in (1, 2, 1, 3, 4, 5, 2)]
    assert [stack == REST for stack in found] == [False] * 4 + [True, True, False]
    assert found[0] is found[2]
    assert stacks.folded == 2


def test_a_zombie_has_no_memory() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert has_memory(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not has_memory(child.pid)
    assert not has_memory(GONE)


class Explaining(Noted):
    """A symbolizer whose answers are made before."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.relatives: list[Any] = []

    def written(self, records: object, family: object, living: object, relatives: Any) -> Any:
        self.asked.append((family, living))
        self.relatives.append(relatives)
        return self.answers.pop(0)


Answer = tuple[list[Explained], bytes | None]
KNOWN: Answer = [(WriteCause.BUFFER, None, False)], None
UNKNOWN: Answer = [(WriteCause.UNKNOWN, None, None)], None


def explaining(*answers: Any) -> tuple[Symbols, Explaining]:
    noted: Any = Explaining(*answers)
    return Symbols(lambda number: None, noted), noted


@contextmanager
def ending(after: int) -> Iterator[int]:
    """A process that has memory until it was asked so often."""
    with subprocess.Popen(["sleep", "60"]) as child, pytest.MonkeyPatch.context() as patch:
        left = [after]

        def looked(pid: int) -> bool:
            left[0] -= pid == child.pid
            return has_memory(pid) and (pid != child.pid or left[0] >= 0)

        patch.setattr(stack_symbols, "has_memory", looked)
        yield child.pid
        child.kill()


@pytest.mark.parametrize("first", [UNKNOWN, None])
def test_the_parent_is_asked_for_what_a_process_that_ends_does_not_tell(first: Any) -> None:
    me = os.getpid()
    with ending(1) as pid:
        stacks, noted = explaining(first, KNOWN)
        found = stacks.written([b""], pid, {pid: process(me, 3)})
    assert found == Explanation(*KNOWN, False)
    assert [living for _, living in noted.asked] == [0, 1]


@pytest.mark.parametrize(("lives", "answer"), [(9, UNKNOWN), (9, KNOWN), (1, KNOWN)])
def test_one_answer_is_enough_where_the_process_lives_or_all_is_known(
    lives: int, answer: Answer
) -> None:
    with ending(lives) as pid:
        stacks, noted = explaining(answer)
        found = stacks.written([b""], pid, {pid: process(os.getpid(), 3)})
    assert found == Explanation(*answer, True)
    assert len(noted.asked) == 1


def test_a_process_without_a_parent_to_ask_keeps_its_answer() -> None:
    with ending(1) as pid:
        stacks, _ = explaining(UNKNOWN, None)
        assert stacks.written([b""], pid, {}) == Explanation(*UNKNOWN, False)


def test_parents_whose_fork_was_not_seen_may_know_it_too_also_later() -> None:
    me = os.getpid()
    stacks, noted = explaining(KNOWN, KNOWN)
    with subprocess.Popen(["sleep", "60"]) as child:
        stacks.written([b""], child.pid, {child.pid: process(GONE, 0), me: process(1, 0)})
        child.kill()
    stacks.written([b""], child.pid, {child.pid: process(GONE, 0)})
    first, second = noted.relatives
    assert first[0] == (me, 1)
    assert [pid for pid, _ in first] == [pid for pid, _ in second]
    assert noted.asked == [(((child.pid, 1),), 0), (((child.pid, 1),), None)]


def test_a_process_whose_parent_has_ended_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = {GONE: 41, 41: 1}
    monkeypatch.setattr(stack_symbols, "parent", parents.get)
    stacks, noted = explaining(KNOWN, KNOWN)
    stacks.written([b""], GONE, {})
    parents[GONE] = 1  # as the kernel has it then
    stacks.written([b""], GONE, {})
    assert noted.relatives == [[(41, 0), (1, 0)]] * 2
