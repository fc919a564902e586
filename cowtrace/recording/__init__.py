"""Keep the snapshots of a trace in an SQLite file, and read them back as frozen values.

tables.py defines the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cowtrace.model import UNKNOWN_PLACE, FaultKind, Place, Snapshot


@dataclass(frozen=True, slots=True)
class Header:
    """What is known at the start of a recording."""

    version: str  # of cowtrace
    kernel: str  # uname -r
    plan: str
    page_bytes: int
    attached_ns: int  # CLOCK_MONOTONIC, as all other times
    started_unix_ns: int  # the wall clock at attached_ns
    interval_ns: int  # as requested; an interval can take longer
    command: str | None  # that was recorded, quoted for a shell. Hostile
    unseen: frozenset[FaultKind]
    details: frozenset[str]  # recorded ones: of plan.DETAILS, and `samples`
    asked: frozenset[str] = frozenset()  # requested ones, whether the plan supports them or not


MOST_POINTS = 300  # in time: what a chart as wide as a screen can show


class Point(NamedTuple):
    """Faults of one process and kind in one interval, or in several consecutive ones."""

    at_ns: int  # CLOCK_MONOTONIC, the end of the last of them
    process: int  # index in Recording.last.processes
    kind: FaultKind
    faults: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole recording in memory."""

    header: Header
    last: Snapshot  # all sums at the end of the last interval in the file
    points: tuple[Point, ...]  # by time
    times: tuple[int, ...]  # the end of each interval, CLOCK_MONOTONIC
    closed: bool  # False: the recorder was killed, or still runs; an interval may be missing
    ended: str | None  # why it ended early: the disk was full
    available: tuple[int | None, ...] = ()  # MemAvailable at the end of each interval, in bytes
    places: tuple[Place, ...] = ()  # of last.processes, if the file has them
    traced_from_ns: int | None = None  # CLOCK_MONOTONIC, as the recorder saw it. None: since attach
    traced_until_ns: int | None = None  # likewise. None: they still ran, or it was not recorded

    @property
    def began_ns(self) -> int:
        """The start of the first traced process, or attach: whichever is later."""
        at = self.last.attached_ns if self.traced_from_ns is None else self.traced_from_ns
        return max(self.last.attached_ns, min(at, self.last.at_ns))

    @property
    def ended_ns(self) -> int:
        """The end of the last traced process, or of the last interval: whichever is earlier."""
        at = self.last.at_ns if self.traced_until_ns is None else self.traced_until_ns
        return max(self.began_ns, min(at, self.last.at_ns))

    @property
    def seconds(self) -> float:
        """The traced time: how long traced processes ran while they were recorded."""
        return (self.ended_ns - self.began_ns) / 1e9

    @property
    def recorded_seconds(self) -> float:
        """From attach to the end of the last interval."""
        return (self.last.at_ns - self.last.attached_ns) / 1e9

    @property
    def ends(self) -> tuple[int, ...]:
        """All times that points can have, CLOCK_MONOTONIC; some may have no point."""
        step = together(len(self.times))
        return (*self.times[step - 1 : -1 : step], *self.times[-1:])

    def place(self, process: int) -> Place:
        """By index in last.processes."""
        return self.places[process] if self.places else UNKNOWN_PLACE


def together(intervals: int) -> int:
    """Consecutive intervals that make one point."""
    return max(1, -(-intervals // MOST_POINTS))
