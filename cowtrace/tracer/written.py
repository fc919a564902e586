"""Explain what sampled copies changed in CPython's memory: struct written in, model.Written out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cowtrace import model
from cowtrace.model import MappingType, Phase, Stack, WriteCause, Written
from cowtrace.symbolizer.cpython.generation import generation
from cowtrace.symbolizer.messages import Identity
from cowtrace.tracer import abi
from cowtrace.tracer.rounds import Rounds
from cowtrace.tracer.stack_symbols import Symbols
from cowtrace.tracer.symbolizer_replies import Explained

_BATCH = 200  # records a request: a message takes 128 KiB
_MOST_STACK_BYTES = 8 << 20  # from the stack pointer of a thread up
_RED_ZONE_BYTES = 128  # below it, of the x86-64 ABI
_NO_PHASE, _WITHOUT_GENERATION = 0, 2  # enum known_phase of bpf/cow.h
_LOOKS_A_ROUND = 16  # for interpreters of processes, beside those that have copied
_ROUNDS_KNOWN = 8  # until a process is looked at again
_CODES = abi.array_of_words(abi.PYTHON_FRAMES)
_FORK_HANDLERS = {"PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child"}
_COLLECTING = (Phase.COLLECTING_0, Phase.COLLECTING_1, Phase.COLLECTING_2)


@dataclass(frozen=True, slots=True)
class WrittenRecord:
    """What one sample has of the memory."""

    pid: int
    address: int
    raw: bytes  # struct written
    mapping: model.Mapping | None
    python: tuple[abi.PythonFrame, ...]

    def packed(self) -> bytes:
        """As symbolizer/cpython/written.py takes it."""
        codes = [frame.code for frame in self.python] + [0] * (abi.PYTHON_FRAMES - len(self.python))
        return abi.U64.pack(self.address) + self.raw + _CODES.pack(*codes)


class WrittenMemory:
    """Finds interpreters, tells the BPF programs where their state is, explains records."""

    def __init__(self, symbols: Symbols, rounds: Rounds) -> None:
        self._symbols = symbols
        self._rounds = rounds
        self._round = 0
        self._asked: dict[Identity, int] = {}  # the round of the last answer
        self._has_runtime: set[int] = set()  # processes with an element in the map

    def look(self, pids: Iterable[int], processes: Mapping[int, abi.Process]) -> None:
        """Look for the interpreters of processes, as long as these are few.

        Those that are new, the youngest first; and from time to time the others: exec takes an
        interpreter away, and may bring one. Called once a round.
        """
        self._round += 1

        def order(pid: int) -> tuple[int, int]:
            pid, start_ns = _identity(pid, processes)
            return self._asked.get((pid, start_ns), -1), -start_ns

        for pid in sorted(pids, key=order)[:_LOOKS_A_ROUND]:
            last = self._asked.get(_identity(pid, processes))
            if last is None or self._round - last >= _ROUNDS_KNOWN:
                self._explained(pid, (), processes)

    def forget(self, ended: Iterable[int]) -> None:
        """Processes have ended."""
        gone = set(ended)
        self._asked = {each: at for each, at in self._asked.items() if each[0] not in gone}
        self._rounds.forget_runtimes(self._has_runtime & gone)
        self._has_runtime -= gone

    def explain(
        self, records: list[WrittenRecord], processes: Mapping[int, abi.Process]
    ) -> list[Written]:
        """What each of them changed, in their order."""
        by_pid: dict[int, list[int]] = {}
        for index, record in enumerate(records):
            by_pid.setdefault(record.pid, []).append(index)
        found: dict[int, Written] = {}
        for pid, indexes in by_pid.items():
            for at in range(0, len(indexes), _BATCH):
                part = indexes[at : at + _BATCH]
                answers = self._explained(pid, [records[i] for i in part], processes)
                for i, answer in zip(part, answers, strict=True):
                    found[i] = _written(records[i], answer)
        return [found[i] for i in range(len(records))]

    def _explained(
        self,
        pid: int,
        records: Sequence[WrittenRecord],
        processes: Mapping[int, abi.Process],
    ) -> Sequence[Explained | None]:
        found = self._symbols.written([each.packed() for each in records], pid, processes)
        if found is None:
            return [None] * len(records)
        self._asked[_identity(pid, processes)] = self._round
        if found.is_own and found.runtime:
            # Again each time: exec may have taken it away meanwhile.
            if self._rounds.set_runtime(pid, found.runtime):
                self._has_runtime.add(pid)
        elif found.is_own and pid in self._has_runtime:
            self._rounds.forget_runtimes((pid,))
            self._has_runtime.discard(pid)
        return found.answers


def _identity(pid: int, processes: Mapping[int, abi.Process]) -> Identity:
    info = processes.get(pid)
    return pid, info.start_ns if info else 0


def _written(record: WrittenRecord, answer: Explained | None) -> Written:
    """`answer` None: there is none."""
    raw = abi.WRITTEN.unpack(record.raw)
    if answer is None:
        return Written(WriteCause.UNKNOWN, None, _phase(raw, None))
    cause, type_name, importing = answer
    return Written(cause or _by_mapping(record, raw.sp), type_name, _phase(raw, importing))


def _by_mapping(record: WrittenRecord, sp: int) -> WriteCause:
    """The cause of a write outside of what the interpreter's allocator and objects take."""
    mapping = record.mapping
    if mapping is None:
        return WriteCause.UNKNOWN
    on_stack = -_RED_ZONE_BYTES <= record.address - sp < _MOST_STACK_BYTES
    if mapping.type is MappingType.STACK or (on_stack and mapping.start <= sp < mapping.end):
        return WriteCause.STACK
    if mapping.type in (MappingType.FILE, MappingType.HUGETLB):
        return WriteCause.LIBRARY
    return WriteCause.MALLOC


def _phase(raw: abi.Written, importing: bool | None) -> Phase | None:
    """What the interpreter did, by its state at the write.

    `importing` None: whether it imports or runs is not known.
    """
    if raw.has_phase == _NO_PHASE:
        return None
    if raw.finalizing:
        return Phase.SHUTTING_DOWN
    if raw.collecting and raw.has_phase == _WITHOUT_GENERATION:
        return Phase.COLLECTING
    if raw.collecting:
        return _COLLECTING[generation(*raw.counts)]
    if importing is None:
        return None
    return Phase.IMPORTING if importing else Phase.RUNNING


def in_phase_of(written: Written, stack: Stack) -> Written:
    """The same, or in a fork's handlers, if its stack goes through them."""
    if written.phase is Phase.RUNNING and any(frame.symbol in _FORK_HANDLERS for frame in stack):
        return replace(written, phase=Phase.FORK_HANDLERS)
    return written
