"""A process, its faults, and where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cowtrace.model.faults import COPIES, FaultKind, FaultRow


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
