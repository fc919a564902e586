"""Records of the ring buffer -> events. The library that reads the ring buffer is a stand-in."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from cowtrace.model import Event, FaultKind, Mapping, MappingType
from cowtrace.tracer import abi, ring
from cowtrace.tracer.events import Events


class Library:
    """Hands out prepared batches of records, one a poll."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.freed = 0

    def ring_buffer__new(self, fd: int, callback: Any, context: None, options: None) -> int:
        self.take = callback
        return 1

    def ring_buffer__poll(self, ring: int, milliseconds: int) -> int:
        for record in self.batches.pop(0) if self.batches else []:
            buffer = ctypes.create_string_buffer(record)
            self.take(0, ctypes.addressof(buffer), len(record))
        return 0

    def ring_buffer__free(self, ring: int) -> None:
        self.freed += 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setattr(ring, "libbpf", lambda: library)
    return library


def record(
    kind: FaultKind = FaultKind.COPIED, *, tid: int = 9, address: int = 0x1234, state: int = 0
) -> bytes:
    return abi.EVENT.pack(77, address, 0x1000, 4096, 0, 8, tid, kind, 1, 0, state, b"re\xffdis")


HEAP = Mapping(0x1000, 0x9000, MappingType.HEAP, 0, "", 0)


def reader() -> Events:
    return Events(3, lambda pid, start: HEAP if (pid, start) == (8, 0x1000) else None)


def test_a_record_becomes_an_event(library: Library) -> None:
    library.batches = [[record()]]
    (event,) = reader().poll(0)
    assert (event.at_ns, event.pid, event.tid, event.comm) == (77, 8, 9, "re\\xffdis")
    assert (event.kind, event.address, event.bytes) == (FaultKind.COPIED, 0x1234, 4096)
    assert event.mapping == HEAP
    assert event.ns is None


def kinds(found: Any) -> list[FaultKind]:
    return [event.kind for event in found]


def test_an_undecided_fault_becomes_what_follows_it(library: Library) -> None:
    library.batches = [[record(FaultKind.REUSED, state=1)], [record(FaultKind.COPIED)], []]
    ring = reader()
    assert kinds(ring.poll(0)) == []
    assert kinds(ring.poll(0)) == [FaultKind.COPIED]
    assert kinds(ring.poll(0)) == []


def test_an_undecided_fault_that_nothing_follows_was_reused(library: Library) -> None:
    library.batches = [[record(FaultKind.REUSED, state=1)], [record(FaultKind.COPIED, tid=10)]]
    ring = reader()
    assert kinds(ring.poll(0)) == []
    assert sorted(kinds(ring.poll(0))) == [FaultKind.COPIED, FaultKind.REUSED]


def test_two_undecided_faults_at_one_place_are_two(library: Library) -> None:
    again = record(FaultKind.REUSED, state=1)
    library.batches = [[again, again], []]
    ring = reader()
    found: list[Event] = [*ring.poll(0), *ring.poll(0)]
    assert kinds(found) == [FaultKind.REUSED, FaultKind.REUSED]


def test_closing_twice_frees_once(library: Library) -> None:
    ring = reader()
    ring.close()
    ring.close()
    assert library.freed == 1
