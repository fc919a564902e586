"""Unpack the structs of bpf/cow.h: one NamedTuple and one Layout for each, and only here.

tests/unit/test_abi.py compares names, types and order of their fields with cow.h.
"""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Generic, TypeVar

from cowtrace.kernel import arch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layout(Generic[T]):
    """The bytes of one struct, and what becomes of its fields."""

    make: Callable[[Any], T]  # from the fields' values
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


# The fields of each struct are those of cow.h without padding; the formats are those of `struct`.
FaultKey = namedtuple("FaultKey", "tgid actor kind source origin half")
FAULT_KEY = _layout(FaultKey, "IIBBBB")

FaultSum = namedtuple("FaultSum", "faults bytes")
FAULT_SUM = _layout(FaultSum, "QQ")

Cell = namedtuple("Cell", "key round faults bytes")
CELL = Layout(lambda raw: Cell(FaultKey(*raw[:6]), *raw[6:]), struct.Struct("<IIBBBBIQQ"))

DetailCell = namedtuple("DetailCell", "sum mapping end forks generation")
DETAIL_CELL = Layout(
    lambda raw: DetailCell(CELL.make(raw[:9]), *raw[9:]),
    struct.Struct(CELL.struct.format + "QQQI4x"),
)

PageFaultKey = namedtuple("PageFaultKey", "tgid half")
PAGE_FAULT_KEY = _layout(PageFaultKey, "II")

PageFaultSum = namedtuple("PageFaultSum", "user kernel write_protect")
PAGE_FAULT_SUM = _layout(PageFaultSum, "QQQ")

Process = namedtuple("Process", "parent exited start_ns created_by last_fork comm")
PROCESS = _layout(Process, "IIQII16s")

DetailKey = namedtuple(
    "DetailKey",
    "mapping user_stack kernel_stack tgid generation kind source origin half latency eighth",
    defaults=(0,),
)
DETAIL_KEY = _layout(DetailKey, "QQQIIBBBBBB2x")

DetailSum = namedtuple("DetailSum", "faults bytes ns tlb_flush_ns", defaults=(0,))
DETAIL_SUM = _layout(DetailSum, "QQQQ")

MappingKey = namedtuple("MappingKey", "start tgid")
MAPPING_KEY = _layout(MappingKey, "QQ")

Mapping = namedtuple("Mapping", "end flags inode device type name")
MAPPING = _layout(Mapping, "QQQII64s")

Generation = namedtuple(
    "Generation",
    "parent child at_ns ended_ns shareable_pages previous executed"
    " fork_ns lock_ns page_table_bytes copied_pages first_second_ns",
    defaults=(0, 0, (1 << 64) - 1, (1 << 64) - 1, (0, 0)),
)
GENERATION = Layout(
    lambda raw: Generation._make((*raw[:11], raw[11:])), struct.Struct("<IIQQQIIQQQQQQ")
)

# PYTHON_FRAMES follows it, and, if they were asked for, WRITTEN and STACK_DUMP.
Sample = namedtuple("Sample", "mapping address tgid generation kind source origin half faults")
SAMPLE = _layout(Sample, "QQIIBBBBI")

# Its arrays are flat: the names are those of what the tracer uses of it.
Written = namedtuple("Written", "sp finalizing collecting counts has_phase")
WRITTEN = Layout(
    lambda raw: Written(raw[1], raw[25], raw[26], raw[27:29], raw[29]),
    struct.Struct("<QQ10Q6QQ6QQI2IIII"),
)

Runtime = namedtuple(
    "Runtime",
    "finalizing collecting counts gil_holder code_mask pool_bytes thread_id frame frame_in"
    " previous code instruction instruction_bytes flags",
)
RUNTIME = Layout(
    lambda raw: Runtime._make((*raw[:2], raw[2:4], *raw[4:])), struct.Struct("<QQ2QQQIIIIIIIII4x")
)

PythonFrame = namedtuple("PythonFrame", "code instruction flags")
PYTHON_FRAME = _layout(PythonFrame, "QQI4x")
PYTHON_FRAMES = 32
PYTHON_FRAMES_BYTES = 8 + PYTHON_FRAMES * PYTHON_FRAME.size

# `regs` and `dump` follow it.
StackDump = namedtuple("StackDump", "dump_bytes")
STACK_DUMP = _layout(StackDump, "I4x")
REGS: Layout[tuple[int, ...]] = _layout(tuple, f"{arch.this().regs_words}Q")

Event = namedtuple(
    "Event",
    "at_ns address mapping bytes ns tgid actor_tid kind source origin state comm",
)
EVENT = _layout(Event, "QQQQQIIBBBB4x16s")

STACK: Layout[tuple[int, ...]] = _layout(tuple, "64Q")
U32: Layout[int] = Layout(itemgetter(0), struct.Struct("<I"))
U64: Layout[int] = Layout(itemgetter(0), struct.Struct("<Q"))


def runtime(numbers: Sequence[object]) -> bytes:
    """struct runtime from the numbers in its order. Raises ValueError where one does not fit."""
    if len(numbers) != 15:
        raise ValueError("not a struct runtime")
    for index, number in enumerate(numbers):
        bits = 64 if index < 6 else 32
        if not isinstance(number, int) or not 0 <= number < 1 << bits:
            raise ValueError("not a number of struct runtime")
    return RUNTIME.pack(*numbers)


def array_of_words(length: int) -> Layout[tuple[int, ...]]:
    """That many numbers of 64 bits."""
    return _layout(tuple, f"{length}Q")


def python_frames(raw: bytes) -> tuple[PythonFrame, ...]:
    """Those of struct python_frames that are valid, innermost first."""
    count = min(U32.unpack(raw), PYTHON_FRAMES)
    return tuple(PYTHON_FRAME.iter_unpack(raw[8 : 8 + count * PYTHON_FRAME.size]))


def signed(value: int) -> int:
    """A sum modulo 2**64 that may be below 0: what was counted too early is taken back."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def text(raw: bytes) -> str:
    """A C string, up to its first NUL; a byte that is not UTF-8 becomes an escape."""
    return raw.partition(b"\0")[0].decode(errors="backslashreplace")
