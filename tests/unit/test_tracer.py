"""A tracer over counters and maps that are made up."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from snapshots import SECOND

from cowtrace import tracer as tracer_module
from cowtrace.model import MappingType
from cowtrace.tracer import abi, bpf_maps
from cowtrace.tracer.details import as_mapping
from cowtrace.tracer.filter import Filter
from cowtrace.tracer.losses import COUNTERS
from cowtrace.tracer.packed import Packed
from cowtrace.tracer.rounds import Rounds, ahead_ns
from cowtrace.tracer.tracer import Tracer

NOTHING_LOST = (0,) * len(COUNTERS)


def test_what_is_lost_during_a_slow_look_is_lost_in_the_next_round() -> None:
    losses = NOTHING_LOST

    def slow(*_: object) -> Any:
        nonlocal losses
        losses = tuple(each + 1 for each in losses)
        return {}

    tracer = bare(NOTHING_LOST, NOTHING_LOST)
    tracer._rounds.counters = lambda: losses  # type: ignore[method-assign]
    tracer._details = Mock(add=slow, rows=tuple)
    tracer._samples = Mock(read=slow, rows=tuple)
    tracer._ledger = Mock(add=slow)
    first = tracer.snapshot()
    assert (first.at_ns, first.completeness.detail) == (7 * SECOND, ())
    assert tracer.snapshot().completeness.lost > 0


def bare(losses: tuple[int, ...], baseline: tuple[int, ...]) -> Tracer:
    """One that reads nothing but these loss counters."""
    tracer = object.__new__(Tracer)
    tracer.plan = "kprobe"
    tracer.probe_plan = Mock(unseen=frozenset())
    tracer._facts = SimpleNamespace(release="6.12", page_bytes=4096)  # type: ignore[assignment]
    raw = Mock(details=None, processes={}, brief={}, at_ns=7 * SECOND)
    tracer._rounds = Mock(counters=lambda: losses, read=lambda known: raw)
    tracer._loaded = Mock(skipped_runs=lambda: (0, 0))
    tracer._new_mappings, tracer._symbols = {}, Mock()
    tracer._details, tracer._ledger, tracer._samples = Mock(rows=tuple), Mock(), None
    tracer._unnamed = dict  # type: ignore[method-assign]
    tracer._attached_ns, tracer._baseline = 0, (*baseline, 0, 0)
    return tracer


def test_what_was_lost_before_all_probes_were_attached_is_not_lost() -> None:
    lost = tuple(23 for _ in COUNTERS)
    assert bare(lost, lost).snapshot().completeness.lost == 0
    assert bare(lost, NOTHING_LOST).snapshot().completeness.lost > 0


def test_ended_processes_and_their_details_are_forgotten() -> None:
    tracer = bare(NOTHING_LOST, NOTHING_LOST)
    tracer.forget_ended()
    tracer._ledger.forget_ended.assert_called_once_with()  # type: ignore[attr-defined]
    tracer._details.forget_ended.assert_called_once_with()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("only", "wanted"), [(Filter(), False), (Filter(pids=(7,)), True)])
def test_a_filter_is_the_kernels_only_where_processes_are_named(
    monkeypatch: pytest.MonkeyPatch, only: Filter, wanted: bool
) -> None:
    asked = []
    monkeypatch.setattr(tracer_module, "require_privileges", lambda: None)
    monkeypatch.setattr(tracer_module, "kernel_facts", Mock())
    monkeypatch.setattr(tracer_module, "preference", lambda facts: ("kprobe",))
    monkeypatch.setattr(tracer_module, "probe_plan", lambda *made: asked.append(made[2]))
    monkeypatch.setattr(tracer_module, "_attach_one", Mock())
    monkeypatch.setattr(tracer_module, "save_answers", lambda: None)
    tracer_module.attach(only=only)
    assert [options.wanted for options in asked] == [wanted]


def test_a_time_namespace_is_ahead_of_the_kernel_or_behind(tmp_path: Path) -> None:
    offsets = tmp_path / "timens_offsets"
    assert ahead_ns(offsets) == 0
    offsets.write_text("monotonic      -10000         7\nboottime            5         0\n")
    assert ahead_ns(offsets) == -10000 * SECOND + 7


def test_the_round_is_32_bits_and_its_cells_are_those_of_its_parity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[bytes] = []
    read: list[int] = []

    def read_parts(fd: int, start: int, *_: object) -> list[abi.Cell]:
        read.append(start)
        return []

    def write(fd: int, at: int, value: bytes) -> None:
        written.append(value)
        next(now_ns)  # it takes time

    monkeypatch.setattr(bpf_maps, "write_element", write)
    monkeypatch.setattr(bpf_maps, "read_batches", lambda *_, **how: [])
    monkeypatch.setattr(bpf_maps, "read_hash", lambda *_: Packed(abi.PROCESS, {}))
    monkeypatch.setattr(bpf_maps, "delete", lambda fd, keys: None)
    monkeypatch.setattr(bpf_maps, "read_parts", read_parts)
    now_ns = iter(range(100))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(now_ns))
    rounds = Rounds(defaultdict(int), cells=64, page_faults=False)
    rounds._round, rounds._ahead_ns = (1 << 32) - 2, 1000
    ends = []
    for _ in range(3):
        raw = rounds.read()
        ends.append((raw.at_ns, raw.end_ns))
    assert ends == [(0, (-1000, -998)), (3, (-997, -995)), (6, (-994, -992))]
    assert [abi.U32.unpack(value) for value in written] == [(1 << 32) - 1, 0, 1]
    assert read == [64, 0, 64]


def test_a_pid_that_came_back_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = abi.Process(1, 1, 5, 0, 0, b"a")
    deleted: list[bytes] = []
    monkeypatch.setattr(bpf_maps, "delete", lambda fd, keys: deleted.extend(keys))
    rounds = Rounds(defaultdict(int), cells=0, page_faults=False)
    for now in (ended._replace(start_ns=6), ended):
        monkeypatch.setattr(bpf_maps, "read_element", lambda *_, now=now: now)
        rounds.forget({7: ended})
    assert deleted == [abi.U32.pack(7)]


def test_the_path_of_another_file_is_not_the_mappings(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was mapped there meanwhile."""
    raw = abi.Mapping(0x2000, 3, 5, 0, MappingType.FILE, b"libc.so.6\0")
    for path, name in ((b"/usr/lib/libc.so.6 (deleted)", "/usr/lib/libc.so.6 (deleted)"),
                       (b"/tmp/other", "libc.so.6")):  # fmt: skip
        monkeypatch.setattr(os, "readlink", lambda _, path=path: path)
        assert as_mapping(1, 0x1000, raw).name == name
