"""What became of each copy-on-write fault: its kind, source and origin."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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
