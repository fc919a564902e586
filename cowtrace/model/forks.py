"""A fork, and the copies attributed to it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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
    # Of the call, until the child was complete. The tracepoint plan's times are lower bounds.
    fork_ns: int | None = None  # None: not timed, as the next one
    lock_ns: int | None = None  # of these, the parent's mmap lock was held for writing
    page_table_bytes: int | None = None  # of the child, without its top level; None: unknown
    fork_copied_bytes: int | None = None  # by fork itself: pinned pages; None: not seen
    # Of the parent, in its copies and re-marks in the first second after it; None: not timed
    first_second_ns: int | None = None

    @property
    def stall_ns(self) -> int | None:
        """How long the parent was stalled, from the call to one second after it.

        None: a part is not known. Flushes of the TLB are in the time of what made them.
        """
        if self.fork_ns is None or self.first_second_ns is None:
            return None
        return self.fork_ns + self.first_second_ns

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
