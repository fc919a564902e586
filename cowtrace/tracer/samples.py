"""Read sampled copies from their ring buffer; sum them by unwound, named stack."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from cowtrace import model
from cowtrace.model import ENDED_PID, DetailRow, FaultKind, Origin, Source, Stack
from cowtrace.tracer import abi
from cowtrace.tracer.ring import Ring
from cowtrace.tracer.stack_symbols import REST, Symbols

_BATCH = 32  # records of 16 KiB
_MANY_ROWS = 1 << 10  # then those that do not change can be forgotten
_MOST_ROWS = 1 << 13  # then the rest is one row for each kind, source and origin

_Key = tuple[int, int | None, int, int, int, model.Mapping | None, Stack]


class Samples:
    """Sums since attach. Each sample stands for all copies of its CPU since the one before."""

    def __init__(
        self,
        ring_fd: int,
        symbols: Symbols,
        mapping: Callable[[int, int], model.Mapping | None],
        generation: Callable[[int], int | None],
        page_bytes: int,
    ) -> None:
        self._symbols = symbols
        self._mapping = mapping
        self._generation = generation
        self._page_bytes = page_bytes
        self._ring = Ring(ring_fd, _BATCH)
        self._rows: dict[_Key, DetailRow] = {}
        self._changed: set[_Key] = set()  # since the others were forgotten
        self.folded = 0  # samples in those rows

    def read(self, processes: Mapping[int, abi.Process], brief: Container[int] = ()) -> None:
        """Add the samples that have arrived; those of brief processes to PID 0."""
        while batch := self._ring.poll(0):
            for record in batch:
                self._add(record, processes, brief)

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

    def _add(
        self, record: bytes, processes: Mapping[int, abi.Process], brief: Container[int] = ()
    ) -> None:
        sample = abi.SAMPLE.unpack(record)
        pid, rest = sample.tgid, record[abi.SAMPLE.size :]
        stack_bytes = rest[abi.REGS.size :][: sample.dump_bytes]
        stack = self._symbols.unwound(abi.REGS.unpack(rest), stack_bytes, pid, processes)
        generation = self._generation(sample.generation)
        mapping = self._mapping(pid, sample.mapping) if sample.mapping else None
        if pid in brief:
            pid, generation, mapping = ENDED_PID, None, None
        key: _Key = pid, generation, sample.kind, sample.source, sample.origin, mapping, stack
        if len(self._rows) >= _MOST_ROWS and key not in self._rows:
            pid, generation, mapping, stack = ENDED_PID, None, None, REST
            key = pid, generation, sample.kind, sample.source, sample.origin, mapping, stack
            self.folded += 1
        self._changed.add(key)
        faults = sample.faults + (self._rows[key].faults if key in self._rows else 0)
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
        )
