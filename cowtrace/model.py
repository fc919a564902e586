"""Define what is counted: frozen values without I/O, all that leaves the tracer."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter


class FaultKind(enum.IntEnum):
    """What became of one copy-on-write fault; `enum fault_kind` in bpf/cow.h."""

    COPIED = 0  # a shared page: its bytes are now in a new frame
    FILE_COPIED = 1  # first write to a private file page that was not mapped yet
    ZERO_FILLED = 2  # the zero page gave way to a fresh page of zeroes
    REUSED = 3  # no longer shared: re-marked writable, in the same frame
    SHARED = 4  # a shared mapping: made writable, never copied
    UNCHANGED = 5  # lost a race, to be retried, or handed to user space
    FAILED = 6  # out of memory, SIGBUS, SIGSEGV
    UNCLASSIFIED = 7  # the page-table entry was gone before it could be read

    @property
    def label(self) -> str:
        """The word users read: `file-copied`."""
        return self.name.lower().replace("_", "-")


COPIES = (FaultKind.COPIED, FaultKind.FILE_COPIED)


class Source(enum.IntEnum):
    """Whose bytes the page held before; `enum fault_source` in bpf/cow.h."""

    UNKNOWN = 0  # not supported by the plan: shown as `-`
    ANON = 1
    FILE = 2
    ZERO = 3
    KSM = 4
    HUGETLB = 5
    THP = 6

    @property
    def label(self) -> str | None:
        """The word users read: `anon`; None when it is unknown."""
        return None if self is Source.UNKNOWN else self.name.lower()


class Origin(enum.IntEnum):
    """What made the write; `enum fault_origin` in bpf/cow.h."""

    USER = 0  # an instruction of the process itself
    KERNEL = 1  # the kernel on the process's behalf: read(2) into the page
    REMOTE = 2  # another process: ptrace, process_vm_writev
    UNSHARE = 3  # no write: the page is pinned for reading for long
    FORK = 4  # fork itself, for a pinned page: no fault at all


@dataclass(frozen=True, slots=True)
class FaultRow:
    """Faults of one process with the same kind, source, origin and actor, since attach."""

    kind: FaultKind
    source: Source
    origin: Origin
    actor: int | None  # pid that made a remote fault
    faults: int
    bytes: int  # written to new frames: 0 for kinds that copy nothing


@dataclass(frozen=True, slots=True)
class PageFaults:
    """Every page fault of one process since attach, copy-on-write or not."""

    user: int
    kernel: int
    write_protect: int  # of both: a write to a page that is present


ENDED_PID = 0  # of a process that stands for ended ones; none that faults has this PID


@dataclass(frozen=True, slots=True)
class Process:
    """One process (the kernel's thread group) and its copy-on-write faults since attach."""

    pid: int  # the kernel's tgid
    comm: str  # as the process named itself: hostile, see text
    parent: int | None  # None when it was created before attach
    exited: bool
    page_faults: PageFaults | None  # None when the page-fault tracepoints are not attached
    rows: tuple[FaultRow, ...]
    unseen: frozenset[FaultKind]  # kinds that the plan does not support
    start_ns: int | None = None  # CLOCK_BOOTTIME; None: unknown
    changed_in: int = field(default=1, repr=False, compare=False)  # the last round of a change
    # Summed once: a process that did not change is the same object in the next snapshot.
    faults: int = field(init=False, repr=False, compare=False)  # all: the sum of the kinds
    copied_bytes: int = field(init=False, repr=False, compare=False)  # without zero-filled
    unclassified: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        copied = sum(row.bytes for row in self.rows if row.kind in COPIES)
        unclassified = sum(r.faults for r in self.rows if r.kind is FaultKind.UNCLASSIFIED)
        object.__setattr__(self, "faults", sum(row.faults for row in self.rows))
        object.__setattr__(self, "copied_bytes", copied)
        object.__setattr__(self, "unclassified", unclassified)

    @property
    def identity(self) -> tuple[int, int | None]:
        """Distinguishes it from an earlier process of the same pid."""
        return self.pid, self.start_ns

    def count(self, *kinds: FaultKind) -> int | None:
        """Faults of these kinds; None when the plan supports none of them."""
        if kinds and self.unseen.issuperset(kinds):
            return None
        return sum(row.faults for row in self.rows if row.kind in kinds)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs, by /proc."""

    nspid: int | None  # container PID: the one in the innermost PID namespace
    cgroup: str | None  # path below the mount. Hostile

    def is_contained(self, pid: int) -> bool:
        """Whether the container PID differs from this host PID."""
        return self.nspid not in (None, pid)


UNKNOWN_PLACE = Place(None, None)
PlaceOf = Callable[[Process], Place]


def unknown_place(process: Process) -> Place:
    """A PlaceOf without any knowledge."""
    return UNKNOWN_PLACE


# No losses: pages that processes allocated outside faults, and pages of zeroes among them.
OUTSIDE_FAULTS = ("outside faults", "zeroed outside faults")
# Causes by which tables of mappings, stacks, forks, durations, single faults, or totals of all page
# faults show too little; tracer/losses.py names all causes.
DETAIL_LOSSES = frozenset(
    {
        "page faults full",
        "details full",
        "mappings full",
        "stacks full",
        "generations full",
        "fork not found",
        "events dropped",
        "samples dropped",
    }
)


@dataclass(frozen=True, slots=True)
class Completeness:
    """What the counts lack: every way to lose a fault is counted."""

    lost: int  # missed faults: 0 in a complete trace
    detail: tuple[tuple[str, int], ...]  # the losses by cause, those above 0
    checked: int = 0  # faults whose classification wp_page_copy() confirmed (cross_check)

    @property
    def causes(self) -> tuple[tuple[str, int], ...]:
        """`detail` without OUTSIDE_FAULTS."""
        return tuple(each for each in self.detail if each[0] not in OUTSIDE_FAULTS)

    @property
    def lost_details(self) -> int:
        """Faults, or forks, that are missing in a table of details, though not in the counts."""
        return sum(number for cause, number in self.detail if cause in DETAIL_LOSSES)


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


class Ending(enum.Enum):
    """What ended the sharing that a fork began."""

    EXEC = "exec"
    EXIT = "exit"


@dataclass(frozen=True, slots=True)
class ForkGeneration:
    """One fork that made a new mm (no thread, no vfork), and the copies attributed to it.

    A child's copies are attributed to the fork that created it, until it forks itself; a parent's,
    to its latest fork whose child still lives.
    """

    number: int  # 1, 2... in the order of forks since attach
    parent: int  # pid
    child: int  # pid
    at_ns: int  # CLOCK_MONOTONIC
    shareable_bytes: int | None  # anonymous memory of the child at that moment; None: unknown
    ended_ns: int | None  # CLOCK_MONOTONIC; None: the child lives and has not called exec
    ended_by: Ending | None
    parent_copied_bytes: int
    child_copied_bytes: int

    @property
    def copied_bytes(self) -> int:
        """By both sides."""
        return self.parent_copied_bytes + self.child_copied_bytes

    @property
    def share_lost(self) -> float | None:
        """Part of the shareable memory that has been copied since the fork: 0 to 1.

        An upper bound: it can include pages that came later (a read of a file, a second fork).
        """
        if not self.shareable_bytes:
            return None
        return min(1.0, self.copied_bytes / self.shareable_bytes)

    @property
    def worst_case_bytes(self) -> int | None:
        """Bytes that may still be copied because of this fork: an upper bound.

        Each page is copied once, by the side that writes first; pages freed meanwhile never are.
        """
        if self.ended_ns is not None:
            return 0
        if self.shareable_bytes is None:
            return None
        return max(0, self.shareable_bytes - self.copied_bytes)


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
    address: int  # user address
    bytes: int
    mapping: Mapping | None
    ns: int | None  # None: not timed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counts at one moment: sums since attach. analysis/processes.py computes rates."""

    at_ns: int  # CLOCK_MONOTONIC
    attached_ns: int  # CLOCK_MONOTONIC
    plan: str  # kprobe, fentry or tracepoint
    kernel: str  # uname -r
    page_bytes: int
    processes: tuple[Process, ...]
    completeness: Completeness
    unseen: frozenset[FaultKind]
    details: tuple[DetailRow, ...] = ()  # empty unless requested
    generations: tuple[ForkGeneration, ...] = ()  # likewise; by number
    samples: tuple[DetailRow, ...] = ()  # copies by user stack: estimates, see tracer.attach
    round: int = field(default=0, repr=False, compare=False)  # number of its round of counting

    @property
    def unclassified(self) -> int:
        return sum(map(attrgetter("unclassified"), self.processes))

    def process(self, pid: int) -> Process | None:
        """The newest process of that pid."""
        return next((p for p in reversed(self.processes) if p.pid == pid), None)

    def changed_since(self, before: Snapshot | None) -> Iterable[Process]:
        """Processes that changed after an earlier snapshot of the same tracer; None: all."""
        if before is None:
            return self.processes
        return [process for process in self.processes if process.changed_in > before.round]

    def families(self, roots: Iterable[int]) -> set[int]:
        """Pids of `roots` and of every process created under them since attach."""
        family = set(roots)
        while new := {p.pid for p in self.processes if p.parent in family} - family:
            family |= new
        return family

    @property
    def in_system_calls(self) -> tuple[int, int] | None:
        """Upper bounds of the copies and zero-fills that the kernel made inside system calls of all
        traced processes, which the tracepoint plan does not see; None: the plan sees them.
        """
        if self.plan != "tracepoint":
            return None
        copied, zero_filled = (dict(self.completeness.detail).get(c, 0) for c in OUTSIDE_FAULTS)
        return copied, zero_filled

    def only(self, keep: Iterable[Process]) -> Snapshot:
        """The same moment, with only these processes, their details and their generations."""
        processes = tuple(keep)
        pids = {process.pid for process in processes}
        return replace(
            self,
            processes=processes,
            details=tuple(row for row in self.details if row.pid in pids),
            samples=tuple(row for row in self.samples if row.pid in pids),
            generations=tuple(g for g in self.generations if {g.parent, g.child} & pids),
        )
