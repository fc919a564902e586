"""What sampled copies changed: requests to the symbolizer, and what the tracer adds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from snapshots import mapping

from cowtrace.model import MappingType, Phase, StackFrame, WriteCause, Written
from cowtrace.symbolizer.cpython.written import RECORD_BYTES, WrittenWords
from cowtrace.tracer import abi, written
from cowtrace.tracer.stack_symbols import Explanation
from cowtrace.tracer.symbolizer_replies import Explained
from cowtrace.tracer.written import WrittenMemory, WrittenRecord, in_phase_of

ME = os.getpid()
RUNTIME = b"a struct runtime"
HEAP = mapping(type=MappingType.HEAP)


def raw(
    *,
    sp: int = 0,
    finalizing: int = 0,
    collecting: int = 0,
    counts: tuple[int, int] = (0, 0),
    has_phase: int = 1,
) -> bytes:
    """struct written."""
    return abi.WRITTEN.struct.pack(
        0, sp, *range(10, 20), *range(20, 26), 23, *range(30, 36),
        finalizing, collecting, *counts, has_phase, 16384, 0,
    )  # fmt: skip


def record(
    pid: int = 1, address: int = 0, what: bytes | None = None, of: Any = None
) -> WrittenRecord:
    return WrittenRecord(pid, address, what or raw(), of, ())


class Symbols:
    """A symbolizer that answers with each record's address as its type's name."""

    def __init__(self, cause: WriteCause | None = WriteCause.BUFFER, importing: bool = False):
        self.cause, self.importing = cause, importing
        self.runtime: bytes | None = RUNTIME
        self.is_own = self.answers = True
        self.asked: list[tuple[int, int]] = []  # pid, how many records

    def written(
        self, records: Sequence[bytes], pid: int, processes: Mapping[int, abi.Process]
    ) -> Explanation | None:
        self.asked.append((pid, len(records)))
        names = [str(WrittenWords.of(each).address) for each in records]
        found: list[Explained] = [(self.cause, name, self.importing) for name in names]
        return Explanation(found, self.runtime, self.is_own) if self.answers else None


class Rounds:
    def __init__(self) -> None:
        self.set: list[int] = []
        self.has_room = True

    def set_runtime(self, pid: int, runtime: bytes) -> bool:
        assert runtime == RUNTIME
        if self.has_room and pid not in self.set:
            self.set.append(pid)
        return self.has_room

    def forget_runtimes(self, pids: Iterable[int]) -> None:
        for pid in pids:
            self.set.remove(pid)


def memory(symbols: Symbols) -> tuple[WrittenMemory, Rounds]:
    rounds: Any = Rounds()
    made: Any = symbols
    return WrittenMemory(made, rounds), rounds


def process(start_ns: int = 1, *, exited: bool = False) -> abi.Process:
    return abi.Process(0, exited, start_ns, 0, 0, b"python")


def explained(one: WrittenRecord, symbols: Symbols) -> Written:
    (found,) = memory(symbols)[0].explain([one], {})
    return found


@pytest.mark.parametrize(
    ("words", "phase"),
    [
        ({"has_phase": 0}, None),
        ({"has_phase": 0, "finalizing": 1, "collecting": 1}, None),
        ({}, Phase.RUNNING),
        ({"counts": (0, 7)}, Phase.RUNNING),
        ({"collecting": 1, "counts": (5, 2)}, Phase.COLLECTING_0),
        ({"collecting": 1, "counts": (5, 0)}, Phase.COLLECTING_0),
        ({"collecting": 1, "counts": (0, 2)}, Phase.COLLECTING_1),
        ({"collecting": 1}, Phase.COLLECTING_2),
        # 3.14.0 to 3.14.4, whose counts do not tell the generation
        ({"has_phase": 2, "collecting": 1}, Phase.COLLECTING),
        ({"has_phase": 2, "collecting": 1, "counts": (5, 2)}, Phase.COLLECTING),
        ({"has_phase": 2}, Phase.RUNNING),
        # The last collections are of shutting down.
        ({"finalizing": 0x7F00, "collecting": 1}, Phase.SHUTTING_DOWN),
        ({"has_phase": 2, "finalizing": 0x7F00, "collecting": 1}, Phase.SHUTTING_DOWN),
    ],
)
def test_phases(words: dict[str, Any], phase: Phase | None) -> None:
    assert explained(record(what=raw(**words)), Symbols()).phase == phase


def test_importing_is_what_runs_else() -> None:
    symbols = Symbols(importing=True)
    assert explained(record(), symbols).phase is Phase.IMPORTING
    assert explained(record(what=raw(collecting=1)), symbols).phase is Phase.COLLECTING_2
    assert explained(record(what=raw(finalizing=1)), symbols).phase is Phase.SHUTTING_DOWN
    assert explained(record(what=raw(has_phase=0)), symbols).phase is None


@pytest.mark.parametrize(
    ("of", "address", "sp", "cause"),
    [
        (None, 0x5000, 0x5000, WriteCause.UNKNOWN),
        (HEAP, HEAP.start + 8, 0, WriteCause.MALLOC),
        (mapping(type=MappingType.STACK), 8, 0, WriteCause.STACK),
        (mapping(type=MappingType.FILE), 8, 0, WriteCause.LIBRARY),
        (mapping(type=MappingType.HUGETLB), 8, 0, WriteCause.LIBRARY),
        # A thread's stack is memory of mmap(): its pointer tells.
        (HEAP, HEAP.start + 1000, HEAP.start + 1000, WriteCause.STACK),
        (HEAP, HEAP.start + 1000, HEAP.start + 1128, WriteCause.STACK),
        (HEAP, HEAP.start + 1000, HEAP.start + 1129, WriteCause.MALLOC),
        (HEAP, HEAP.start + 8192, HEAP.start, WriteCause.STACK),
        (HEAP, HEAP.start + (8 << 20), HEAP.start, WriteCause.MALLOC),
        (HEAP, HEAP.start, HEAP.start - 8, WriteCause.MALLOC),
    ],
)
def test_what_is_no_memory_of_the_interpreter_is_told_by_its_mapping(
    of: Any, address: int, sp: int, cause: WriteCause
) -> None:
    one = record(address=address, what=raw(sp=sp), of=of)
    assert explained(one, Symbols(cause=None)).cause is cause
    assert explained(one, Symbols()).cause is WriteCause.BUFFER  # else, it is not asked


def test_the_symbolizer_gets_what_it_unpacks() -> None:
    frames = (abi.PythonFrame(41, 0, 0), abi.PythonFrame(43, 0, 0))
    packed = WrittenRecord(1, 0x7F0000001234, raw(), None, frames).packed()
    assert len(packed) == RECORD_BYTES
    words = WrittenWords.of(packed)
    assert words.address == 0x7F0000001234
    assert (words.near, words.pool) == (tuple(range(10, 20)), tuple(range(20, 26)))
    assert (words.block, words.head, words.pool_bytes) == (23, tuple(range(30, 36)), 16384)
    assert words.codes == (41, 43, *[0] * 30)


def test_many_records_are_asked_for_in_parts_and_keep_their_order() -> None:
    symbols = Symbols()
    records = [record(7 + number % 3 // 2, address=number) for number in range(1009)]
    found = memory(symbols)[0].explain(records, {})
    assert [each.type for each in found] == [str(number) for number in range(1009)]
    assert symbols.asked == [(7, 200)] * 3 + [(7, 73)] + [(8, 200), (8, 136)]


def test_no_records_need_no_request() -> None:
    symbols = Symbols()
    assert memory(symbols)[0].explain([], {}) == []
    assert symbols.asked == []


def test_new_processes_are_looked_at_once() -> None:
    symbols = Symbols()
    found, rounds = memory(symbols)
    first = {1: process(), 2: process()}
    found.look(first, first)
    found.look(first, first)
    assert symbols.asked == [(1, 0), (2, 0)]
    assert rounds.set == [1, 2]
    found.look([3], {**first, 3: process()})
    found.look([2], {2: process(start_ns=5)})  # another process of that PID
    assert symbols.asked[2:] == [(3, 0), (2, 0)]
    found.forget([1])
    found.look(first, {1: process(), 2: process(start_ns=5)})
    assert symbols.asked[4:] == [(1, 0)]


def test_processes_are_looked_at_again_after_some_rounds() -> None:
    symbols = Symbols()
    found, _ = memory(symbols)
    everyone = {1: process()}
    for _ in range(8):
        found.look(everyone, everyone)
    assert symbols.asked == [(1, 0)]
    found.look(everyone, everyone)
    assert symbols.asked == [(1, 0), (1, 0)]


def test_of_many_new_processes_some_are_looked_at_in_each_round() -> None:
    symbols = Symbols()
    found, _ = memory(symbols)
    everyone = {pid: process() for pid in range(1, 24)}
    found.look(everyone, everyone)
    assert symbols.asked == [(pid, 0) for pid in range(1, 17)]
    found.look(everyone, everyone)
    assert symbols.asked[16:] == [(pid, 0) for pid in range(17, 24)]


def test_the_youngest_of_the_new_ones_are_looked_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "_LOOKS_A_ROUND", 2)
    symbols = Symbols()
    looks, _ = memory(symbols)
    processes = {pid: abi.Process(1, 0, pid * 10, 0, 0, b"") for pid in (1, 2, 3, 4, 5)}
    looks.look((1, 2, 3), processes)
    looks.look((1, 2, 3, 4, 5), processes)
    looks.look((1, 2, 3, 4, 5), processes)
    assert [pid for pid, _ in symbols.asked] == [3, 2, 5, 4, 1]


def test_what_nobody_explains_is_unknown() -> None:
    symbols = Symbols()
    symbols.answers = False
    found, rounds = memory(symbols)
    some = [record(of=HEAP), record(what=raw(collecting=1), of=HEAP)]
    assert found.explain(some, {}) == [
        Written(WriteCause.UNKNOWN, None, None),  # it may import
        Written(WriteCause.UNKNOWN, None, Phase.COLLECTING_2),
    ]
    assert rounds.set == []
    found.look([1], {})
    found.look([1], {})
    assert symbols.asked[1:] == [(1, 0), (1, 0)]


def test_a_process_that_has_ended_gets_no_element_of_the_map() -> None:
    symbols = Symbols()
    symbols.is_own = False  # one that it was forked from answers
    found, rounds = memory(symbols)
    found.explain([record()], {})
    assert rounds.set == []


def test_an_interpreter_that_is_gone_is_forgotten() -> None:
    symbols = Symbols()
    found, rounds = memory(symbols)
    found.explain([record(1), record(2), record(3)], {})
    assert rounds.set == [1, 2, 3]
    found.forget([2, 7])
    assert rounds.set == [1, 3]
    symbols.runtime = None  # it has executed another program
    found.explain([record(1)], {})
    assert rounds.set == [3]


def test_a_full_map_is_no_error() -> None:
    found, rounds = memory(Symbols())
    rounds.has_room = False
    found.explain([record(1)], {})
    found.forget([1])
    assert rounds.set == []


def test_the_programs_are_told_where_an_interpreter_is_when_they_do_not_know() -> None:
    symbols = Symbols()
    symbols.runtime = None
    found, rounds = memory(symbols)
    everyone = {1: process()}
    found.look(everyone, everyone)
    assert rounds.set == []
    symbols.runtime = RUNTIME  # it has called exec
    found.explain([record(what=raw(has_phase=0))], everyone)
    assert rounds.set == [1]
    found.explain([record(), record()], everyone)
    assert rounds.set == [1]


@pytest.mark.parametrize(
    "handler", ["PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child"]
)
def test_handlers_of_a_fork_are_told_by_the_stack(handler: str) -> None:
    def stack(*names: str) -> tuple[StackFrame, ...]:
        return tuple(StackFrame(name, "libpython.so", 0) for name in names)

    running = Written(WriteCause.BUFFER, None, Phase.RUNNING)
    through = stack("memset", "py::refill:random.py", handler, "os_fork", "main")
    assert in_phase_of(running, through).phase is Phase.FORK_HANDLERS
    assert in_phase_of(running, stack("memset", f"{handler}s", "main")) is running
    assert in_phase_of(running, ()) is running
    for phase in (None, Phase.COLLECTING_2, Phase.IMPORTING, Phase.SHUTTING_DOWN):
        other = Written(WriteCause.BUFFER, None, phase)
        assert in_phase_of(other, through) is other


NUMBERS = [*range(1, 7), *range(7, 16)]


def test_a_struct_runtime_is_made_of_its_numbers() -> None:
    made = abi.RUNTIME.unpack(abi.runtime(NUMBERS))
    assert made.finalizing == 1
    assert made.counts == (3, 4)
    assert made.code_mask == 6
    assert made.flags == 15
    most = [*[(1 << 64) - 1] * 6, *[(1 << 32) - 1] * 9]
    assert abi.RUNTIME.unpack(abi.runtime(most)).previous == (1 << 32) - 1


@pytest.mark.parametrize(
    "numbers",
    [
        *([], NUMBERS[:-1], [*NUMBERS, 1]),
        *([-1, *NUMBERS[1:]], [1 << 64, *NUMBERS[1:]], [None, *NUMBERS[1:]]),
        *([*NUMBERS[:6], 1 << 32, *NUMBERS[7:]], [*NUMBERS[:-1], 1.5], ["1", *NUMBERS[1:]]),
    ],
)
def test_what_is_no_struct_runtime(numbers: list[object]) -> None:
    with pytest.raises(ValueError, match="struct runtime"):
        abi.runtime(numbers)
