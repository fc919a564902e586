"""Unpack the structs of bpf/cow.h: one NamedTuple and one Layout for each, and only here.

tests/unit/test_abi.py compares names, types and order of their fields with cow.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

from cowtrace.kernel import arch

T = TypeVar("T")
_Bytes = bytes  # in a struct with a field of that name


@dataclass(frozen=True, slots=True)
class Layout(Generic[T]):
    """The bytes of one struct, and what becomes of its fields."""

    make: Callable[[Iterable[Any]], T]
    struct: struct.Struct

    @property
    def size(self) -> int:
        return self.struct.size

    def pack(self, *fields: Any) -> bytes:
        return self.struct.pack(*fields)

    def unpack(self, raw: bytes) -> T:
        """From its bytes; what follows them is ignored."""
        return self.make(self.struct.unpack_from(raw))

    def iter_unpack(self, raw: bytes) -> Iterator[T]:
        """Each element of an array."""
        return map(self.make, self.struct.iter_unpack(raw))


def _layout(named: Callable[..., T], form: str) -> Layout[T]:
    # Not NamedTuple._make, which is slow: here a round of 10,000 processes is unpacked.
    new: Any = tuple.__new__
    return Layout(partial(new, named), struct.Struct("<" + form))


class FaultKey(NamedTuple):
    tgid: int
    actor: int
    kind: int
    source: int
    origin: int
    half: int


class FaultSum(NamedTuple):
    faults: int
    bytes: int


class Cell(NamedTuple):
    key: FaultKey
    round: int
    faults: int
    bytes: int


class PageFaultKey(NamedTuple):
    tgid: int
    half: int


class PageFaultSum(NamedTuple):
    user: int
    kernel: int
    write_protect: int


class Process(NamedTuple):
    parent: int
    exited: int
    start_ns: int
    born_in: int
    last_fork: int
    comm: bytes


class DetailKey(NamedTuple):
    mapping: int
    user_stack: int
    kernel_stack: int
    tgid: int
    generation: int
    kind: int
    source: int
    origin: int
    half: int
    latency: int


class DetailSum(NamedTuple):
    faults: int
    bytes: int
    ns: int


class MappingKey(NamedTuple):
    start: int
    tgid: int


class Mapping(NamedTuple):
    end: int
    flags: int
    inode: int
    device: int
    type: int
    name: bytes


class Generation(NamedTuple):
    parent: int
    child: int
    at_ns: int
    ended_ns: int
    shareable_pages: int
    previous: int
    executed: int


class Sample(NamedTuple):
    """Without `regs` and `dump`, which follow it."""

    mapping: int
    tgid: int
    generation: int
    kind: int
    source: int
    origin: int
    faults: int
    dump_bytes: int


class Event(NamedTuple):
    at_ns: int
    address: int
    mapping: int
    bytes: int
    ns: int
    tgid: int
    actor_tid: int
    kind: int
    source: int
    origin: int
    undecided: int
    comm: _Bytes


_only: Callable[[Any], int] = itemgetter(0)  # the field of a number that is no struct


def _cell(fields: Any) -> Cell:
    return Cell(FaultKey(*fields[:6]), *fields[6:])


FAULT_KEY = _layout(FaultKey, "IIBBBB")
FAULT_SUM = _layout(FaultSum, "QQ")
CELL = Layout(_cell, struct.Struct("<IIBBBBIQQ"))
PAGE_FAULT_KEY = _layout(PageFaultKey, "II")
PAGE_FAULT_SUM = _layout(PageFaultSum, "QQQ")
PROCESS = _layout(Process, "IIQII16s")
DETAIL_KEY = _layout(DetailKey, "QQQIIBBBBB3x")
DETAIL_SUM = _layout(DetailSum, "QQQ")
MAPPING_KEY = _layout(MappingKey, "QQ")
MAPPING = _layout(Mapping, "QQQII64s")
GENERATION = _layout(Generation, "IIQQQII")
SAMPLE = _layout(Sample, "QIIBBBxII4x")
EVENT = _layout(Event, "QQQQQIIBBBB4x16s")
STACK: Layout[tuple[int, ...]] = _layout(tuple, "64Q")
REGS: Layout[tuple[int, ...]] = _layout(tuple, f"{arch.this().regs_words}Q")
U32 = Layout(_only, struct.Struct("<I"))
U64 = Layout(_only, struct.Struct("<Q"))


def signed(value: int) -> int:
    """A sum modulo 2**64 that may be below 0: what was counted too early is taken back."""
    return value - (1 << 64) if value >> 63 else value


def text(raw: bytes) -> str:
    """A C string, up to its first NUL; a byte that is not UTF-8 becomes an escape."""
    return raw.partition(b"\0")[0].decode(errors="backslashreplace")
