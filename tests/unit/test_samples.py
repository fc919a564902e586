"""Samples that arrive add up by their stack, and by what they changed."""

from __future__ import annotations

import struct
from typing import Any
from unittest.mock import Mock

import pytest
from snapshots import mapping

from cowtrace.model import (
    FaultKind,
    MappingType,
    Origin,
    Phase,
    Source,
    StackFrame,
    WriteCause,
    Written,
)
from cowtrace.tracer import abi, samples
from cowtrace.tracer.samples import Samples
from cowtrace.tracer.stack_symbols import REST
from cowtrace.tracer.written import WrittenRecord

HEAP = mapping(type=MappingType.HEAP)
FORKING = (StackFrame("PyOS_AfterFork_Child", "libpython.so", 0),)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Samples:
    """One whose stacks are all the same."""
    monkeypatch.setattr(samples, "Ring", Mock())
    symbols: Any = Mock(unwound=lambda *_: ())
    return Samples(
        3, symbols, lambda pid, start: None, lambda number: number, 4096, Mock(),
        stacks=True, objects=False,
    )  # fmt: skip


def arrive(
    found: Samples,
    records: list[bytes],
    processes: dict[int, abi.Process] | None = None,
    *,
    brief: tuple[int, ...] = (),
    half: int = 0,
) -> None:
    """They are read when the round whose parity is `half` has ended."""
    found._ring = Mock(poll=Mock(side_effect=[records, []]))
    found.read(half, processes or {}, brief)


def record(pid: int, faults: int, half: int = 0) -> bytes:
    fields = {
        "mapping": 0, "tgid": pid, "generation": 1, "kind": FaultKind.COPIED,
        "source": Source.ANON, "origin": Origin.USER, "faults": faults, "address": 0,
        "half": half,
    }  # fmt: skip
    return abi.SAMPLE.pack(*abi.Sample(**fields)) + bytes(
        abi.PYTHON_FRAMES_BYTES + abi.STACK_DUMP.size + abi.REGS.size
    )


def test_samples_of_one_stack_stand_for_all_their_faults(read: Samples) -> None:
    for faults in (23, 11):
        arrive(read, [record(7, faults)])
    arrive(read, [record(8, 5)])
    assert [(row.pid, row.faults, row.bytes) for row in read.rows()] == [
        (7, 34, 34 * 4096),
        (8, 5, 5 * 4096),
    ]


def test_samples_of_the_round_that_has_begun_wait_for_its_end(read: Samples) -> None:
    stacks = iter([FORKING, FORKING, (), ()])
    read._symbols = Mock(unwound=lambda *_: next(stacks))  # each is unwound once
    arrive(read, [record(7, 2, half=1), record(8, 3, half=0), record(9, 5, half=0)], half=1)
    assert [(row.pid, row.faults) for row in read.rows()] == [(7, 2)]
    arrive(read, [record(8, 11, half=0)], brief=(9,), half=0)
    assert [(row.pid, row.faults, row.user_stack) for row in read.rows()] == [
        (7, 2, FORKING),
        (8, 3, FORKING),  # named before its process could end
        (0, 5, ()),
        (8, 11, ()),
    ]
    arrive(read, [], half=1)
    assert sum(row.faults for row in read.rows()) == 21


def test_samples_that_wait_take_bounded_memory(
    read: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_MOST_WAITING", 3)
    read._ring = Mock(poll=Mock(side_effect=[[record(7, 2, half=1)] * 5, [record(8, 3)], []]))
    read.read(0, {})
    assert (len(read._waiting), read.rows()) == (5, ())
    read.read(1, {})
    assert [(row.pid, row.faults) for row in read.rows()] == [(7, 10)]
    read._ring = Mock(poll=lambda seconds: [])
    read.read(0, {})
    assert [(row.pid, row.faults) for row in read.rows()] == [(7, 10), (8, 3)]


def test_stacks_without_end_take_bounded_memory(
    read: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_MOST_ROWS", 5)
    for pid in range(1, 12):
        arrive(read, [record(pid, 2)])
    assert [row.pid for row in read.rows()] == [1, 2, 3, 4, 5, 0]
    assert sum(row.faults for row in read.rows()) == 22
    assert read.rows()[-1].user_stack == REST
    assert read.folded == 6


def test_of_many_rows_those_that_do_not_change_are_forgotten(
    read: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_MANY_ROWS", 2)
    for some in ((1, 2), (2, 3)):
        for pid in some:
            arrive(read, [record(pid, 2)])
        read.forget_unchanged()
    assert [(row.pid, row.faults) for row in read.rows()] == [(2, 4), (3, 2)]
    arrive(read, [record(1, 5)])
    assert read.rows()[-1].faults == 5


class Interpreters:
    """Explains each record by its PID."""

    def __init__(self) -> None:
        self.records: list[WrittenRecord] = []

    def explain(self, records: list[WrittenRecord], processes: object) -> list[Written]:
        self.records += records
        return [Written(WriteCause.BUFFER, str(each.pid), Phase.RUNNING) for each in records]


def with_objects(monkeypatch: pytest.MonkeyPatch, *, stacks: bool) -> tuple[Samples, Interpreters]:
    monkeypatch.setattr(samples, "Ring", Mock())
    symbols: Any = Mock(unwound=lambda *_: FORKING)
    interpreters: Any = Interpreters()
    found = Samples(
        3, symbols, lambda pid, start: HEAP, lambda number: number, 4096, interpreters,
        stacks=stacks, objects=True,
    )  # fmt: skip
    return found, interpreters


def written_record(pid: int, faults: int, *, stacks: bool) -> bytes:
    fields = {
        "mapping": HEAP.start, "tgid": pid, "generation": 1, "kind": FaultKind.COPIED,
        "source": Source.ANON, "origin": Origin.USER, "faults": faults, "address": pid << 12,
        "half": 0,
    }  # fmt: skip
    frames = struct.pack("<II", 2, 0) + abi.PYTHON_FRAME.pack(41, 1, 0) * 2
    raw = abi.SAMPLE.pack(*abi.Sample(**fields)) + frames.ljust(abi.PYTHON_FRAMES_BYTES, b"\0")
    raw += bytes([pid]) * abi.WRITTEN.size
    return raw + bytes(abi.STACK_DUMP.size + abi.REGS.size) if stacks else raw


@pytest.mark.parametrize("stacks", [False, True])
def test_what_was_written_has_rows_of_its_own(
    monkeypatch: pytest.MonkeyPatch, stacks: bool
) -> None:
    found, interpreters = with_objects(monkeypatch, stacks=stacks)
    parts = [(7, 23), (8, 11), (7, 5)]
    arrive(found, [written_record(*each, stacks=stacks) for each in parts])
    phase = Phase.FORK_HANDLERS if stacks else Phase.RUNNING
    assert [(row.pid, row.faults, row.written) for row in found.rows()] == [
        (7, 28, Written(WriteCause.BUFFER, "7", phase)),
        (8, 11, Written(WriteCause.BUFFER, "8", phase)),
    ]
    assert {row.user_stack for row in found.rows()} == {FORKING if stacks else None}
    first = interpreters.records[0]
    assert (first.pid, first.address, first.mapping) == (7, 7 << 12, HEAP)
    assert first.raw == b"\7" * abi.WRITTEN.size
    assert [frame.code for frame in first.python] == [41, 41]


def test_of_brief_processes_what_was_written_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = with_objects(monkeypatch, stacks=False)
    arrive(found, [written_record(7, 23, stacks=False)], brief=(7,))
    (row,) = found.rows()
    assert (row.pid, row.mapping, row.generation) == (0, None, None)
    assert row.written == Written(WriteCause.BUFFER, "7", Phase.RUNNING)


def test_of_rows_without_end_the_rest_has_no_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_MOST_ROWS", 5)
    found, _ = with_objects(monkeypatch, stacks=False)
    arrive(found, [written_record(pid, 2, stacks=False) for pid in range(1, 12)])
    assert [row.pid for row in found.rows()] == [1, 2, 3, 4, 5, 0]
    assert found.rows()[-1].written is None
    assert found.rows()[-1].user_stack is None
    assert sum(row.faults for row in found.rows()) == 22


def test_what_nobody_explains_is_counted_with_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    found, interpreters = with_objects(monkeypatch, stacks=False)
    unknown = Written(WriteCause.UNKNOWN, None, Phase.RUNNING)
    monkeypatch.setattr(interpreters, "explain", lambda records, _: [unknown] * len(records))
    arrive(found, [written_record(7, 23, stacks=False)], half=1)
    assert found.unexplained == 0
    arrive(found, [], half=0)
    assert found.unexplained == 1


@pytest.mark.parametrize("stacks", [True, False])
def test_of_processes_that_nobody_chose_only_the_copies_are_known(
    monkeypatch: pytest.MonkeyPatch, stacks: bool
) -> None:
    found, interpreters = with_objects(monkeypatch, stacks=stacks)
    found._is_called = lambda comm: comm == "gunicorn"
    names = {7: b"gunicorn", 8: b"celery"}
    processes = {pid: abi.Process(1, 0, 0, 0, 0, name) for pid, name in names.items()}
    pids = (7, 8, 9)  # the name of the last is not known
    arrive(found, [written_record(pid, pid, stacks=stacks) for pid in pids], processes)
    assert [(row.pid, row.faults) for row in found.rows()] == [(7, 7), (8, 8), (9, 9)]
    assert [each.pid for each in interpreters.records] == [7, 9]
    causes = [row.written and row.written.cause for row in found.rows()]
    assert causes == [WriteCause.BUFFER, WriteCause.UNKNOWN, WriteCause.BUFFER]
    assert found.unexplained == 0
    if stacks:
        assert [row.user_stack for row in found.rows()] == [FORKING, REST, FORKING]


def test_interpreters_are_looked_for_in_chosen_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    found, interpreters = with_objects(monkeypatch, stacks=False)
    found._is_called = lambda comm: comm == "gunicorn"
    names = {7: b"gunicorn", 8: b"celery"}
    processes = {pid: abi.Process(1, 0, 0, 0, 0, name) for pid, name in names.items()}
    looked: list[int] = []
    interpreters.look = lambda pids, _: looked.extend(pids)  # type: ignore[attr-defined]
    found.look((9, 8, 7), processes)
    assert looked == [9, 7]
