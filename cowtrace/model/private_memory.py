"""Where the private memory of a process came from: what no other process maps."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from cowtrace.model.processes import ENDED_PID


class Cause(enum.Enum):
    """Why a page of a process became private, or ceased to be."""

    REPLACED = "replaced"  # a shared page by another frame: copied, or given back and touched anew
    FROM_FILE = "from_file"  # a page of its own in a private mapping of a file
    ZERO_FILLED = "zero_filled"  # the zero page was replaced
    TOUCHED = "touched"  # there was no page
    LEFT_ALONE = "left_alone"  # the same frame: the others that mapped it are gone, or copied it
    COLLAPSED = "collapsed"  # a huge page took the place of small pages, or of none
    SWAPPED_IN = "swapped_in"
    UNMAPPED = "unmapped"
    GIVEN_BACK = "given_back"  # the mapping is still there: MADV_DONTNEED, MADV_FREE
    SWAPPED_OUT = "swapped_out"
    MERGED = "merged"  # by KSM
    SHARED_BY_FORK = "shared_by_fork"  # the same frame, or one that was touched before the fork

    @property
    def takes(self) -> bool:
        """Whether it takes from private memory."""
        return self in _TAKES

    @property
    def label(self) -> str:
        """The words users read, with a sign."""
        return _LABELS[self]


_LABELS = {
    Cause.REPLACED: "+ replaced",
    Cause.FROM_FILE: "+ copied from a file",
    Cause.ZERO_FILLED: "+ zero-filled after a read",
    Cause.TOUCHED: "+ new memory, first touched",
    Cause.LEFT_ALONE: "+ no longer shared by others",
    Cause.COLLAPSED: "+ collapsed into huge pages",
    Cause.SWAPPED_IN: "+ swapped in",
    Cause.UNMAPPED: "- unmapped",
    Cause.GIVEN_BACK: "- given back, still mapped",
    Cause.SWAPPED_OUT: "- swapped out",
    Cause.MERGED: "- merged by KSM",
    Cause.SHARED_BY_FORK: "- shared again, by a fork",
}
_TAKES = frozenset(cause for cause, label in _LABELS.items() if label.startswith("-"))
COPIED, TOUCHED_AGAIN = "+ copied when written", "+ given back, touched again"  # of REPLACED
FILES, UNEXPLAINED = "± pages of files", "± unexplained"
ENDED = "- freed at its end"
_SUMMED = ("began", "now", "moved", "files", "anonymous", "swap", "unread")


@dataclass(frozen=True, slots=True)
class Account:
    """The private memory of one process since it was first read, or created. In bytes."""

    pid: int
    comm: str = ""  # hostile, see text
    ended: bool = False  # it is as it was last read
    began: int = 0  # private memory then, by smaps; 0: it was created since
    now: int = 0  # likewise, as it was last read
    moved: int = 0  # by how much it changed while it was last read
    files: int = 0  # of the difference: pages of files and of shared memory
    anonymous: int = 0  # now, by smaps, shared or not
    swap: int = 0  # its share of what is in swap, by smaps
    unread: int = 0  # of sparse mappings, before Linux 6.7
    by_cause: Mapping[Cause, int] = field(default_factory=dict)  # none is below 0
    traced: Mapping[Cause, int] | None = None  # what a probe counted; None: no probe

    @property
    def change(self) -> int:
        return self.now - self.began

    @property
    def left(self) -> int:
        """Private memory now: an end frees it."""
        return 0 if self.ended else self.now

    @property
    def explained(self) -> int:
        """The sum of all causes."""
        gained = sum(-size if cause.takes else size for cause, size in self.by_cause.items())
        return gained + self.files

    @property
    def unexplained(self) -> int:
        """By how much the change exceeds what is explained."""
        return self.change - self.explained

    @property
    def copied(self) -> int | None:
        """Of what was replaced: at most what a probe saw copied. None: no probe."""
        if self.traced is None:
            return None
        return min(self.bytes(Cause.REPLACED), self.traced.get(Cause.REPLACED, 0))

    def bytes(self, cause: Cause) -> int:
        """By one cause."""
        return self.by_cause.get(cause, 0)

    @property
    def rows(self) -> dict[str, int]:
        """All that changed it, by label, in the order in which they are shown."""
        replaced = self.bytes(Cause.REPLACED)
        copied = replaced if self.copied is None else self.copied
        return {
            COPIED: copied,
            TOUCHED_AGAIN: replaced - copied,
            **{cause.label: self.bytes(cause) for cause in Cause if cause is not Cause.REPLACED},
            FILES: self.files,
            UNEXPLAINED: self.unexplained,
            ENDED: self.now - self.left,
        }


def added(one: Account, other: Account) -> Account:
    """The sums of two, as one of processes that have ended."""
    by_cause = {cause: one.bytes(cause) + other.bytes(cause) for cause in Cause}
    traced = None
    if one.traced is not None and other.traced is not None:
        traced = {cause: size + other.traced[cause] for cause, size in one.traced.items()}
    return Account(
        ENDED_PID, "[ended]", True, by_cause=by_cause, traced=traced,
        **{name: getattr(one, name) + getattr(other, name) for name in _SUMMED},
    )  # fmt: skip
