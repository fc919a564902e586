"""Read single faults from the ring buffer: records in, events out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cowtrace.model import Event, FaultKind, Mapping, Origin, Source
from cowtrace.tracer import abi
from cowtrace.tracer.ring import Ring

_UNDECIDED, _TAKEN_BACK = 1, 2  # enum event_state of bpf/cow.h


def is_exact(origin: int, source: int) -> bool:
    """Whether a fault's address is that of the byte, where the plan shows these.

    The kernel faults whole pages in for another process and for a pin. Of hugetlb, the function
    that is probed is passed the huge page.
    """
    return origin in (Origin.USER, Origin.KERNEL) and source != Source.HUGETLB


class Events:
    """Reads the ring buffer with that file descriptor. `mapping` finds one by (pid, start).

    `exact`: the plan shows the addresses of bytes, not of their pages alone.
    """

    def __init__(
        self, fd: int, mapping: Callable[[int, int], Mapping | None], *, exact: bool = False
    ) -> None:
        self._ring = Ring(fd)
        self._mapping = mapping
        self._exact = exact
        self._undecided: dict[tuple[int, int], Event] = {}  # by thread and address

    def poll(self, timeout_seconds: float) -> Iterator[Event]:
        """The events that have arrived; waits at most `timeout_seconds` for the first.

        The tracepoint plan sees the start of a write-protection fault, and the rest only if it
        copies. A fault without a copy by the next poll is an event of kind REUSED.
        """
        before = list(self._undecided)
        for record in self._ring.poll(timeout_seconds):
            yield from self._settle(record)
        for key in before:
            if event := self._undecided.pop(key, None):
                yield event

    def close(self) -> None:
        """Idempotent."""
        self._ring.close()

    def _settle(self, record: bytes) -> Iterator[Event]:
        event, state = self._event(record)
        key = (event.tid, event.address)
        if state == _TAKEN_BACK:
            self._undecided.pop(key, None)
            return
        if state == _UNDECIDED:
            if earlier := self._undecided.pop(key, None):
                yield earlier
            self._undecided[key] = event
            return
        self._undecided.pop(key, None)
        yield event

    def _event(self, record: bytes) -> tuple[Event, int]:
        raw = abi.EVENT.unpack(record)
        event = Event(
            at_ns=raw.at_ns,
            pid=raw.tgid,
            tid=raw.actor_tid,
            comm=abi.text(raw.comm),
            kind=FaultKind(raw.kind),
            source=Source(raw.source),
            origin=Origin(raw.origin),
            address=raw.address,
            is_exact=self._exact and is_exact(raw.origin, raw.source),
            bytes=raw.bytes,
            mapping=self._mapping(raw.tgid, raw.mapping) if raw.mapping else None,
            ns=raw.ns or None,
        )
        return event, raw.state
