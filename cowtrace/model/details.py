"""Faults by mapping, stack and duration; single faults."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from cowtrace.model.faults import FaultKind, Origin, Source
from cowtrace.model.written import Written


class MappingType(enum.IntEnum):
    """What a mapping is; `enum mapping_type` in bpf/cow.h."""

    ANON = 0
    HEAP = 1  # between start_brk and brk
    STACK = 2  # of the main thread
    FILE = 3
    HUGETLB = 4


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping (the kernel's vma) as of the last fault seen in it."""

    start: int  # user address
    end: int
    type: MappingType
    flags: int  # vma->vm_flags
    name: str  # path, or its last part; or set by PR_SET_VMA_ANON_NAME; or empty. Hostile
    inode: int  # of the file; 0 without one


@dataclass(frozen=True, slots=True)
class StackFrame:
    """One return address of a stack, symbolised."""

    symbol: str  # function, C++ demangled; `[unknown]`. Hostile, as is the module
    module: str  # file or `[kernel]`; empty when unknown
    address: int
    line: int | None = None  # of Python code; None: unknown, or other code


Stack = tuple[StackFrame, ...]  # the innermost function first


@dataclass(frozen=True, slots=True)
class DetailRow:
    """Faults of one process that share every requested detail.

    None in a field: not requested, or not supported by the plan.
    """

    pid: int
    kind: FaultKind
    source: Source
    origin: Origin
    generation: int | None  # number of the ForkGeneration they are attributed to, if any
    mapping: Mapping | None
    user_stack: Stack | None
    kernel_stack: Stack | None
    latency: int | None  # log2: the fault took at least 2**latency ns, less than 2**(latency+1)
    faults: int
    bytes: int  # written to new frames
    ns: int | None  # in these faults, from handle_mm_fault() on; None: not timed
    tlb_flush_ns: int | None = None  # of these, flushing the TLB; None: not timed. Not recorded
    written: Written | None = None  # what the writes changed; None: not asked for
    eighth: int | None = None  # of the page, from 0, that was written; None: not asked for, unknown
    # Of its sums, the same from one snapshot to the next; a row that was forgotten and comes back
    # has another number, and sums that begin anew. 0: not one row of a tracer.
    number: int = field(default=0, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Event:
    """One fault, as `cowtrace snoop` shows it."""

    at_ns: int  # CLOCK_MONOTONIC, at its end
    pid: int
    tid: int  # the thread that faulted; of another process when the fault is remote
    comm: str  # of that thread. Hostile
    kind: FaultKind
    source: Source
    origin: Origin
    address: int  # user address: of the byte that was written, unless is_exact is False
    bytes: int
    mapping: Mapping | None
    ns: int | None  # None: not timed
    is_exact: bool = False  # False: the address is that of the page


def known_sum(*numbers: int | None) -> int | None:
    """The sum of those that are known; None: none is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
