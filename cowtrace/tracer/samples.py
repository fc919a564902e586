"""Read sampled copies from their ring buffer; sum them by stack and by what they changed."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import compress

from cowtrace import model
from cowtrace.model import (
    ENDED_PID,
    DetailRow,
    FaultKind,
    Origin,
    Source,
    Stack,
    WriteCause,
    Written,
)
from cowtrace.tracer import abi
from cowtrace.tracer.details import SUM_NUMBERS
from cowtrace.tracer.ring import Ring
from cowtrace.tracer.stack_symbols import REST, Symbols
from cowtrace.tracer.written import WrittenMemory, WrittenRecord, in_phase_of

_BATCH = 32  # records of 16 KiB, with stacks
_SMALL_BATCH = 2048  # without
_MANY_ROWS = 1 << 10  # then those that do not change can be forgotten
_NOT_ASKED = Written(WriteCause.UNKNOWN, None, None)
_MOST_WAITING = 1 << 13  # then the others wait in the ring buffer
_MOST_ROWS = 1 << 13  # then the rest is one row for each kind, source and origin

_Key = tuple[
    int, int | None, int, int, int, model.Mapping | None, Stack | None, Written | None
]  # fmt: skip
_Named = tuple[abi.Sample, model.Mapping | None, Stack | None, Written | None]


class Samples:
    """Sums since attach. Each sample stands for all copies of its CPU since the one before.

    `stacks`: they have one. `objects`: they have what was written. Both are not known of a process
    whose name is not one of those that `is_called` chooses.
    """

    def __init__(
        self,
        ring_fd: int,
        symbols: Symbols,
        mapping: Callable[[int, int], model.Mapping | None],
        generation: Callable[[int], int | None],
        page_bytes: int,
        interpreters: WrittenMemory,
        is_called: Callable[[str], bool] = lambda comm: True,
        *,
        stacks: bool,
        objects: bool,
    ) -> None:
        self._symbols = symbols
        self._mapping = mapping
        self._generation = generation
        self._page_bytes = page_bytes
        self._stacks = stacks
        self._objects = objects
        self._interpreters = interpreters
        self._is_called = is_called
        self._ring = Ring(ring_fd, _BATCH if stacks else _SMALL_BATCH)
        self._rows: dict[_Key, DetailRow] = {}
        self._changed: set[_Key] = set()  # since the others were forgotten
        self._waiting: list[_Named] = []  # of the round that has begun
        self.folded = 0  # samples in those rows
        self.unexplained = 0  # samples of which it is not known what was written

    def read(
        self, half: int, processes: Mapping[int, abi.Process], brief: Container[int] = ()
    ) -> None:
        """Add the samples of the ended round, whose parity is `half`; of brief ones to PID 0.

        Those of the next round are named now, since their process may end, and added by the next
        call: so that there are never more samples than copies.
        """
        waiting, self._waiting = self._waiting, []
        self._add(waiting, half, brief)
        while len(self._waiting) < _MOST_WAITING and (batch := self._ring.poll(0)):
            self._add(self._name(batch, processes), half, brief)

    def look(self, pids: Iterable[int], processes: Mapping[int, abi.Process]) -> None:
        """Find the interpreters of processes that are new."""
        chosen = (pid for pid in pids if self._is_chosen(pid, processes))
        self._interpreters.look(chosen, processes)

    def forget(self, ended: Iterable[int]) -> None:
        """Processes have ended."""
        self._interpreters.forget(ended)

    def rows(self) -> tuple[DetailRow, ...]:
        """Estimates: `faults` and `bytes` are those that the samples stand for."""
        return tuple(self._rows.values())

    def forget_unchanged(self) -> None:
        """Where there are many, leave out rows that have not changed since; they begin anew."""
        if len(self._rows) > _MANY_ROWS:
            self._rows = {key: self._rows[key] for key in self._rows if key in self._changed}
        self._changed.clear()

    def close(self) -> None:
        """Idempotent."""
        self._ring.close()

    def _add(self, samples: Iterable[_Named], half: int, brief: Container[int]) -> None:
        for each in samples:
            if each[0].half == half:
                self._count(*each, is_brief=each[0].tgid in brief)
            else:
                self._waiting.append(each)

    def _name(self, records: list[bytes], processes: Mapping[int, abi.Process]) -> Iterator[_Named]:
        """With their mapping, their stack and what was written."""
        samples = [abi.SAMPLE.unpack(record) for record in records]
        mappings = [(s.mapping and self._mapping(s.tgid, s.mapping)) or None for s in samples]
        frames = [abi.python_frames(record[abi.SAMPLE.size :]) for record in records]
        head = abi.SAMPLE.size + abi.PYTHON_FRAMES_BYTES
        rests = [record[head:] for record in records]
        chosen = [self._is_chosen(sample.tgid, processes) for sample in samples]
        written: list[Written | None] = [None] * len(records)
        if self._objects:
            size = abi.WRITTEN.size
            explained = iter(
                self._interpreters.explain(
                    [
                        WrittenRecord(s.tgid, s.address, rest[:size], mapping, python)
                        for s, rest, mapping, python in compress(
                            zip(samples, rests, mappings, frames, strict=True), chosen
                        )
                    ],
                    processes,
                )
            )
            written[:] = [next(explained) if each else _NOT_ASKED for each in chosen]
            rests = [rest[size:] for rest in rests]
        for sample, mapping, rest, python, what, is_chosen in zip(
            samples, mappings, rests, frames, written, chosen, strict=True
        ):
            stack = None
            if self._stacks:
                stack = REST
                if is_chosen:
                    stack = self._stack(rest, python, sample.tgid, processes)
                what = what and in_phase_of(what, stack)
            yield sample, mapping, stack, what

    def _is_chosen(self, pid: int, processes: Mapping[int, abi.Process]) -> bool:
        """True, too, where its name is not known."""
        info = processes.get(pid)
        return info is None or self._is_called(abi.text(info.comm))

    def _stack(
        self,
        raw: bytes,
        python: tuple[abi.PythonFrame, ...],
        pid: int,
        processes: Mapping[int, abi.Process],
    ) -> Stack:
        dump_bytes = abi.STACK_DUMP.unpack(raw).dump_bytes
        rest = raw[abi.STACK_DUMP.size :]
        dump = rest[abi.REGS.size :][:dump_bytes]
        return self._symbols.unwound(abi.REGS.unpack(rest), dump, pid, processes, python)

    def _count(
        self,
        sample: abi.Sample,
        mapping: model.Mapping | None,
        stack: Stack | None,
        written: Written | None,
        *,
        is_brief: bool,
    ) -> None:
        pid, generation = sample.tgid, self._generation(sample.generation)
        if written and written.cause is WriteCause.UNKNOWN and written is not _NOT_ASKED:
            self.unexplained += 1
        if is_brief:
            pid, generation, mapping = ENDED_PID, None, None
        kind = sample.kind, sample.source, sample.origin
        key: _Key = pid, generation, *kind, mapping, stack, written
        if len(self._rows) >= _MOST_ROWS and key not in self._rows:
            pid, generation, mapping, written = ENDED_PID, None, None, None
            stack = REST if self._stacks else None
            key = pid, generation, *kind, mapping, stack, written
            self.folded += 1
        self._changed.add(key)
        before = self._rows.get(key)
        faults = sample.faults + (before.faults if before else 0)
        self._rows[key] = DetailRow(
            pid=pid,
            kind=FaultKind(sample.kind),
            source=Source(sample.source),
            origin=Origin(sample.origin),
            generation=generation,
            mapping=mapping,
            user_stack=stack,
            kernel_stack=None,
            latency=None,
            faults=faults,
            bytes=faults * self._page_bytes,
            ns=None,
            written=written,
            number=before.number if before else next(SUM_NUMBERS),
        )
