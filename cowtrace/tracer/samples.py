"""Read sampled copies from their ring buffer; sum them by unwound, named stack."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from cowtrace import model
from cowtrace.model import DetailRow, FaultKind, Origin, Source, Stack
from cowtrace.tracer import abi
from cowtrace.tracer.ring import Ring
from cowtrace.tracer.stack_symbols import Symbols, has_memory
from cowtrace.tracer.unwind import Dump, Unwinder

_MOST_UNWINDERS = 32  # each holds the files of one process open

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
        self._ring = Ring(ring_fd)
        self._unwinders: OrderedDict[int, Unwinder] = OrderedDict()
        self._rows: dict[_Key, DetailRow] = {}

    def read(self, processes: Mapping[int, abi.Process]) -> None:
        """Add the samples that have arrived."""
        for record in self._ring.poll(0):
            self._add(record, processes)

    def rows(self) -> tuple[DetailRow, ...]:
        """Estimates: `faults` and `bytes` are those that the samples stand for."""
        return tuple(self._rows.values())

    def close(self) -> None:
        """Idempotent."""
        self._ring.close()
        while self._unwinders:
            self._unwinders.popitem()[1].close()

    def _add(self, record: bytes, processes: Mapping[int, abi.Process]) -> None:
        sample = abi.SAMPLE.unpack(record)
        pid, rest = sample.tgid, record[abi.SAMPLE.size :]
        stack_bytes = rest[abi.REGS.size :][: sample.dump_bytes]
        dump = Dump.of(abi.REGS.unpack(rest), stack_bytes)
        stack = self._symbols.named(self._unwind(pid, dump, processes), pid, processes)
        generation = self._generation(sample.generation)
        mapping = self._mapping(pid, sample.mapping) if sample.mapping else None
        key = pid, generation, sample.kind, sample.source, sample.origin, mapping, stack
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

    def _unwind(
        self, pid: int, dump: Dump, processes: Mapping[int, abi.Process]
    ) -> tuple[int, ...]:
        """Unwind with the files of the process, or of the one it was forked from."""
        owner = self._symbols.owner(pid, processes)
        if owner is None:
            return (dump.regs[-1],)
        unwinder = self._unwinders.pop(owner, None)
        if unwinder and not unwinder.is_mapped(dump.regs[-1]) and has_memory(owner):
            unwinder.close()  # it has loaded something since
            unwinder = None
        if unwinder is None:
            unwinder = Unwinder(owner)
        self._unwinders[owner] = unwinder
        if len(self._unwinders) > _MOST_UNWINDERS:
            self._unwinders.popitem(last=False)[1].close()
        return unwinder.addresses(
            dump, lambda address: self._symbols.is_trampoline(address, pid, processes)
        )
