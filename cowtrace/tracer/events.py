"""Single faults out of the ring buffer: bytes in, `Event`s out, each complete."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import replace

from cowtrace.errors import CowtraceError
from cowtrace.kernel.libbpf import libbpf
from cowtrace.model import Event, FaultKind, Mapping, Origin, Source
from cowtrace.tracer import abi

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Events:
    """Reads the ring buffer with that file descriptor. `mapping` finds one by (pid, start)."""

    def __init__(self, fd: int, mapping: Callable[[int, int], Mapping | None]) -> None:
        self._lib = libbpf()
        self._mapping = mapping
        self._batch: list[bytes] = []
        self._callback = _CALLBACK(self._take)  # kept: the library calls it
        self._ring = self._lib.ring_buffer__new(fd, self._callback, None, None)
        if not self._ring:
            raise CowtraceError(
                "cannot read the ring buffer", hint="report this with `cowtrace doctor`"
            )
        self._undecided: dict[tuple[int, int], Event] = {}  # by thread and address

    def poll(self, timeout_seconds: float) -> Iterator[Event]:
        """What has come; waits up to so long for the first.

        The tracepoint plan sees a write-protection fault begin, and only if it copies, how it
        goes on. Such a fault is given out as REUSED when nothing followed by the next poll.
        """
        before = list(self._undecided)
        milliseconds = round(timeout_seconds * 1000)
        self._lib.ring_buffer__poll(self._ring, milliseconds)
        raw, self._batch = self._batch, []
        for record in raw:
            yield from self._settle(record)
        for key in before:
            if event := self._undecided.pop(key, None):
                yield event

    def close(self) -> None:
        """Idempotent."""
        ring, self._ring = self._ring, None
        if ring:
            self._lib.ring_buffer__free(ring)

    def _take(self, _context: int, data: int, size: int) -> int:
        self._batch.append(ctypes.string_at(data, size))
        return 0

    def _settle(self, record: bytes) -> Iterator[Event]:
        event, undecided = self._event(record)
        key = (event.tid, event.address)
        if undecided:
            if earlier := self._undecided.pop(key, None):
                yield earlier
            self._undecided[key] = event
            return
        self._undecided.pop(key, None)
        yield event

    def _event(self, record: bytes) -> tuple[Event, bool]:
        (at_ns, address, start, copied, ns, pid, tid, kind, source, origin, undecided, _, comm) = (
            abi.EVENT.unpack_from(record)
        )
        event = Event(
            at_ns=at_ns,
            pid=pid,
            tid=tid,
            comm=comm.split(b"\0", 1)[0].decode(errors="backslashreplace"),
            kind=FaultKind(kind),
            source=Source(source),
            origin=Origin(origin),
            address=address,
            bytes=copied,
            mapping=None,
            ns=ns or None,
        )
        return replace(event, mapping=self._mapping(pid, start)) if start else (event), bool(
            undecided
        )
