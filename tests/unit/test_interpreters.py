"""The symbolizer's replies about interpreters: this process is the one that is read."""

from __future__ import annotations

import gc
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cowtrace.model import WriteCause
from cowtrace.symbolizer import interpreters
from cowtrace.symbolizer.cpython.written import RECORD_BYTES
from cowtrace.symbolizer.interpreters import Interpreters, _Names
from cowtrace.symbolizer.messages import Identity
from cowtrace.symbolizer.python_process import _variables
from cowtrace.symbolizer.traced_process import TracedProcess
from cowtrace.tracer import abi

CAUSES = [None, *WriteCause]
POOL_BYTES = 16384
ME = (os.getpid(), 1)
NAMES = {"memory": "mem", "pagemap": "pagemap"}


class Item:
    """With links of the collector in front of it, and nothing else."""

    __slots__ = ("value",)


def traced(text: bytes | None = None) -> TracedProcess:
    files: Any = None  # no name of code is looked up
    made = TracedProcess(files)
    made.update(Path("/proc/self/maps").read_bytes() if text is None else text, 1)
    return made


class Files:
    """What the tracer opens, and which requests it had."""

    def __init__(self, *, memory: bool = True) -> None:
        self.asked: list[str] = []
        self._memory = memory

    def __call__(self, kind: str, *which: Any) -> int | None:
        self.asked.append(kind)
        if kind in NAMES:
            return os.open(f"/proc/self/{NAMES[kind]}", os.O_RDONLY) if self._memory else None
        return os.open(which[2], os.O_RDONLY)


@pytest.fixture
def found() -> Iterator[Interpreters]:
    made = Interpreters()
    yield made
    made.close()


def record(address: int, *codes: int) -> bytes:
    """As the BPF programs read it of this process."""
    with Path("/proc/self/mem").open("rb") as memory:

        def words(at: int, count: int) -> list[int]:
            data = os.pread(memory.fileno(), 8 * count, at)
            return [*struct.unpack(f"<{len(data) // 8}Q", data), *[0] * count][:count]

        start = address & -POOL_BYTES
        pool = words(start, 6)
        block, size = 0, ((pool[4] >> 32) + 1) * 16
        if pool[4] >> 32 < 64 and pool[5] >> 32 == POOL_BYTES - size and address - start >= 48:
            block = start + 48 + (address - start - 48) // size * size
        head = words(block, 6) if block else [0] * 6
        near = words((address & ~7) - 32, 10)
    padded = [*codes, *[0] * 32][:32]
    return struct.pack(
        "<Q16x10Q6QQ6Q8x16xII32Q", address, *near, *pool, block, *head, POOL_BYTES, 0, *padded
    )


def answers(reply: dict[str, Any]) -> list[tuple[WriteCause | None, str | None, bool | None]]:
    types = [None, *reply["types"]]
    return [(CAUSES[cause], types[name], flag) for cause, name, flag in reply["written"]]


def test_writes_into_objects_of_this_process(found: Interpreters) -> None:
    item, large = Item(), tuple(range(1000))  # that is in no pool
    gc.collect()
    name = f"{__name__}.Item"
    raw = b"".join(
        record(address)
        for address in (id(item), id(item) - 8, id(item) + 16, id(large), id(large) + 320)
    )
    reply = found.explain([ME], ME, traced(), raw, 1, Files())
    assert answers(reply) == [
        (WriteCause.REFERENCE_COUNT, name, False),
        (WriteCause.GC_HEADER, name, False),
        (WriteCause.OBJECT_DATA, name, False),
        (WriteCause.REFERENCE_COUNT, "tuple", False),
        (WriteCause.OBJECT_DATA, "tuple", False),
    ]
    assert sorted(reply["types"]) == sorted([name, "tuple"])  # each once
    runtime = abi.RUNTIME.unpack(abi.runtime(reply["runtime"]))
    assert runtime.pool_bytes == POOL_BYTES
    assert runtime.instruction_bytes in (4, 8)


def test_importing_is_told_by_the_code_that_runs(found: Interpreters) -> None:
    own = id(record.__code__)
    imports = id(sys.modules["_frozen_importlib"]._find_and_load.__code__)
    item = Item()
    raw = b"".join(record(id(item), *codes) for codes in ((own,), (own, imports), (), (1,)))
    reply = found.explain([ME], ME, traced(), raw, 1, Files())
    assert [importing for _, _, importing in answers(reply)] == [False, True, False, False]


def test_what_cannot_be_had_has_no_answer(found: Interpreters) -> None:
    raw = record(id(Item)) + record(id(Item) + 8)
    unknown = [(WriteCause.UNKNOWN, None, None)] * 2
    by_mapping = [(None, None, False)] * 2
    files = Files(memory=False)
    for owner, process, opener, expected in (
        (None, None, Files(), unknown),
        (ME, None, Files(), unknown),
        (ME, traced(), files, unknown),
        ((ME[0], 2), traced(b""), Files(), by_mapping),  # no mappings: it runs no program
    ):
        reply = found.explain([ME], owner, process, raw, 1, opener)
        assert answers(reply) == expected
        assert reply["runtime"] is None
        assert reply["types"] == []
    assert files.asked == ["memory", "pagemap"] * 2


def test_an_interpreter_is_looked_for_once_a_round_until_it_is_there(found: Interpreters) -> None:
    files = Files()
    process = traced()
    for _ in range(3):
        assert found.explain([ME], ME, process, b"", 1, files)["runtime"]
    assert files.asked.count("memory") == 1
    once = len(files.asked)
    found.explain([ME], ME, process, b"", 2, files)
    assert len(files.asked) == once


@contextmanager
def child() -> Iterator[tuple[Identity, Callable[..., int | None]]]:
    """A copy of this process, and what opens its memory; ended at the end of the block."""
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)

    def opened(kind: str, *which: Any) -> int | None:
        if kind in NAMES:
            with suppress(FileNotFoundError):
                return os.open(f"/proc/{pid}/{NAMES[kind]}", os.O_RDONLY)
            return None
        return os.open(which[2], os.O_RDONLY)

    try:
        yield (pid, 1), opened
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_process_that_has_ended_knows_the_types_that_it_was_asked_for(
    found: Interpreters,
) -> None:
    item, alias = Item(), list[int]
    seen, new = record(id(item)), record(id(alias))
    with child() as (pid, open_):
        found.explain([pid], pid, traced(), seen, 1, open_)
    reply = found.explain([pid], pid, traced(), seen + new, 2, open_)
    assert answers(reply) == [
        (WriteCause.REFERENCE_COUNT, f"{__name__}.Item", False),
        (WriteCause.UNKNOWN, None, False),
    ]


def test_those_that_a_process_was_forked_from_know_the_rest(found: Interpreters) -> None:
    alias = list[int]
    raw = record(id(alias))
    found.explain([ME], ME, traced(), b"", 1, Files())
    with child() as (pid, open_):
        found.explain([pid], pid, traced(), b"", 1, open_)
    reply = found.explain([pid, ME], pid, traced(), raw, 2, open_)
    assert answers(reply) == [(WriteCause.REFERENCE_COUNT, "types.GenericAlias", False)]


def test_another_interpreter_is_not_asked(found: Interpreters) -> None:
    alias = list[int]
    raw = record(id(alias))
    found.explain([ME], ME, traced(), b"", 1, Files())
    with child() as (pid, open_):
        found.explain([pid], pid, traced(), b"", 1, open_)
    mine = found._processes[ME]
    assert mine.runtime
    mine.runtime = replace(mine.runtime, bias=mine.runtime.bias + 4096)  # it executed a program
    reply = found.explain([pid, ME], pid, traced(), raw, 2, open_)
    assert answers(reply) == [(WriteCause.UNKNOWN, None, False)]


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_descriptors_are_bounded(found: Interpreters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "_MOST_PROCESSES", 3)
    before = open_files()
    for pid in range(7):
        found.explain([(pid, 1)], (pid, 1), traced(), b"", 1, Files())
    assert open_files() == before + 2 * 3
    found.close()
    assert open_files() == before


def test_names_of_a_reply_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "_MOST_REPLY", 6 * 10)
    told: list[str] = []
    names = _Names(told)
    assert [names.number(name) for name in ("abcd", "efgh", "abcd", "ijkl", "ab", "abcd")] == [
        *(1, 2, 1, 0, 0, 1)
    ]
    assert told == ["abcd", "efgh"]
    monkeypatch.setattr(interpreters, "_MOST_REPLY", 80_000)
    longer: list[str] = []
    assert _Names(longer).number("x" * 1000) == 1
    assert longer == ["x" * 200]


def test_variables_are_in_the_file_and_the_zeroes_behind_it() -> None:
    maps = b"""\
00400000-00500000 r-xp 00000000 08:01 23                         /usr/bin/python3.11
00700000-00800000 rw-p 00300000 08:01 23                         /usr/bin/python3.11
00800000-00900000 rw-p 00000000 00:00 0
00900000-00a00000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000001000 rw-p 00000000 08:01 24                 /usr/lib/libc.so.6
7f0000001000-7f0000002000 rw-p 00000000 00:00 0
7f0000003000-7f0000004000 rw-p 00000000 00:00 0
"""
    assert list(_variables(maps, b"/usr/bin/python3.11")) == [
        (0x400000, 0x500000),
        (0x700000, 0x800000),
        (0x800000, 0x900000),
    ]
    assert list(_variables(b"no map", b"/usr/bin/python3.11")) == []


def test_frames_of_python_take_their_places(found: Interpreters) -> None:
    code = record.__code__
    loop = ("_PyEval_EvalFrameDefault", "python3.11", 0x1000)
    flags = 1  # the entry frame of a call, as 3.11 has it; 3.12 and later end at a frame without
    stack = found.with_python(ME, traced(), [loop], [[id(code), id(code), flags]], 1, Files())
    assert [frame[0] for frame in stack] == [f"py::record:{__file__}"]
    without = found.with_python((0, 1), traced(b""), [loop], [[id(code), 0, 0]], 1, Files())
    assert without == [loop]


def test_a_record_has_its_length() -> None:
    assert len(record(id(Item))) == RECORD_BYTES
