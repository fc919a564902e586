"""Samples that arrive add up by their stack; unwinders of few processes stay open."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.tracer import abi, samples
from cowtrace.tracer.samples import Samples


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Samples:
    """One whose stacks are all the same, and whose processes all live."""
    FakeUnwinder.made = {}
    monkeypatch.setattr(samples, "Ring", Mock())
    monkeypatch.setattr(samples, "has_memory", lambda pid: True)
    monkeypatch.setattr(samples, "Unwinder", FakeUnwinder)
    symbols: Any = Mock(owner=lambda pid, processes: pid, named=lambda *_: ())
    return Samples(3, symbols, lambda pid, start: None, lambda number: number, 4096)


class FakeUnwinder:
    made: dict[int, FakeUnwinder]

    def __init__(self, pid: int) -> None:
        self.closed = False
        type(self).made[pid] = self

    def is_mapped(self, address: int) -> bool:
        return True

    def addresses(self, dump: object, is_trampoline: object) -> tuple[int, ...]:
        return (23,)

    def close(self) -> None:
        self.closed = True


def record(pid: int, faults: int) -> bytes:
    fields = {
        "mapping": 0, "tgid": pid, "generation": 1, "kind": FaultKind.COPIED,
        "source": Source.ANON, "origin": Origin.USER, "faults": faults, "dump_bytes": 0,
    }  # fmt: skip
    return abi.SAMPLE.pack(*abi.Sample(**fields)) + bytes(abi.REGS.size)


def test_samples_of_one_stack_stand_for_all_their_faults(read: Samples) -> None:
    for faults in (23, 11):
        read._add(record(7, faults), {})
    read._add(record(8, 5), {})
    assert [(row.pid, row.faults, row.bytes) for row in read.rows()] == [
        (7, 34, 34 * 4096),
        (8, 5, 5 * 4096),
    ]


def test_the_unwinder_that_was_not_used_for_longest_is_closed(read: Samples) -> None:
    pids = list(range(1, samples._MOST_UNWINDERS + 1))
    for pid in (*pids, 1, 99):  # the first is used once more
        read._add(record(pid, 1), {})
    closed = [pid for pid, each in FakeUnwinder.made.items() if each.closed]
    assert closed == [2]
