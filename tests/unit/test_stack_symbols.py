"""Whose symbols name a stack, when its process is there, and when it is not."""

from __future__ import annotations

import os
import subprocess

from cowtrace.model import StackFrame
from cowtrace.tracer import abi
from cowtrace.tracer.stack_symbols import Symbols

GONE = 4_000_000_000  # no pid
GONE_TOO = GONE + 1


def process(parent: int, created_by: int) -> abi.Process:
    return abi.Process(parent, 1, 1, created_by, 0, b"worker")


def names(address: int, pid: int | None) -> tuple[str, str]:
    return ("", "") if address == 12 else (f"f{address}", str(pid))


def symbols(*addresses: int) -> Symbols:
    return Symbols(lambda number: addresses or None, names)


def modules(stacks: Symbols, pid: int | None, processes: dict[int, abi.Process]) -> list[str]:
    return [frame.module for frame in stacks.stack(1, pid, processes) or ()]


def test_a_living_process_names_its_own() -> None:
    """A return address by the call before it, which may be the last thing of its function."""
    me = os.getpid()
    assert symbols(23, 13).stack(1, me, {}) == (
        StackFrame("f23", str(me), 23),
        StackFrame("[unknown]", "", 13),
    )


def test_the_kernel_has_no_pid() -> None:
    assert modules(symbols(23), None, {}) == ["None"]


def test_a_child_that_ended_is_named_by_the_memory_it_was_forked_from() -> None:
    me = os.getpid()
    family = {GONE: process(GONE_TOO, 4), GONE_TOO: process(me, 3)}
    assert modules(symbols(23), GONE, family) == [str(me)]


def test_after_exec_the_parent_knows_nothing() -> None:
    family = {GONE: process(os.getpid(), 0)}
    assert symbols(23).stack(1, GONE, family) == (StackFrame("[unknown]", "", 23),)


def test_a_stack_that_was_not_kept_is_missing() -> None:
    assert symbols().stack(1, os.getpid(), {}) is None


def test_one_that_ended_is_named_by_what_was_read_of_it() -> None:
    """Its symbols were read while it lived, and are at hand; a later one of its pid has others."""
    stacks = symbols(23)
    with subprocess.Popen(["sleep", "60"]) as child:
        first = {child.pid: process(os.getpid(), 0)}
        assert modules(stacks, child.pid, first) == [str(child.pid)]
        child.kill()
    ended = dict(first)
    assert modules(stacks, child.pid, ended) == [str(child.pid)]
    later: dict[int, abi.Process] = {child.pid: abi.Process(os.getpid(), 1, 2, 0, 0, b"sleep")}
    assert modules(stacks, child.pid, later) == [""]


def test_one_address_has_other_names_in_another_process() -> None:
    stacks, round_ = symbols(23), dict[int, abi.Process]()
    with subprocess.Popen(["sleep", "60"]) as child:
        both = [modules(stacks, pid, round_) for pid in (os.getpid(), child.pid)]
        child.kill()
    assert both == [[str(os.getpid())], [str(child.pid)]]
