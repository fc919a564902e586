"""Samples that arrive add up by their stack."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.tracer import abi, samples
from cowtrace.tracer.samples import Samples
from cowtrace.tracer.stack_symbols import REST


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Samples:
    """One whose stacks are all the same."""
    monkeypatch.setattr(samples, "Ring", Mock())
    symbols: Any = Mock(unwound=lambda *_: ())
    return Samples(
        3, symbols, lambda pid, start: None, lambda number: number, 4096, Mock(),
        stacks=True, objects=False,
    )  # fmt: skip


def record(pid: int, faults: int) -> bytes:
    fields = {
        "mapping": 0, "tgid": pid, "generation": 1, "kind": FaultKind.COPIED,
        "source": Source.ANON, "origin": Origin.USER, "faults": faults, "address": 0,
    }  # fmt: skip
    return abi.SAMPLE.pack(*abi.Sample(**fields)) + bytes(
        abi.PYTHON_FRAMES_BYTES + abi.STACK_DUMP.size + abi.REGS.size
    )


def test_samples_of_one_stack_stand_for_all_their_faults(read: Samples) -> None:
    for faults in (23, 11):
        read._add([record(7, faults)], {}, ())
    read._add([record(8, 5)], {}, ())
    assert [(row.pid, row.faults, row.bytes) for row in read.rows()] == [
        (7, 34, 34 * 4096),
        (8, 5, 5 * 4096),
    ]


def test_stacks_without_end_take_bounded_memory(
    read: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_MOST_ROWS", 5)
    for pid in range(1, 12):
        read._add([record(pid, 2)], {}, ())
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
            read._add([record(pid, 2)], {}, ())
        read.forget_unchanged()
    assert [(row.pid, row.faults) for row in read.rows()] == [(2, 4), (3, 2)]
    read._add([record(1, 5)], {}, ())
    assert read.rows()[-1].faults == 5
