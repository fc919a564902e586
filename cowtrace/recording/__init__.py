"""Keep snapshots of a trace in a file: SQLite, one transaction an interval. These are its values.

The tables are those of schema.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cowtrace.model import NOWHERE, FaultKind, Place, Process, Snapshot


@dataclass(frozen=True, slots=True)
class Header:
    """What is known when a recording begins."""

    version: str  # of cowtrace
    kernel: str  # uname -r
    plan: str
    page_bytes: int
    attached_ns: int  # CLOCK_MONOTONIC, as all other times
    started_unix_ns: int  # the wall clock at attached_ns
    interval_ns: int  # that was asked for; an interval can be longer
    command: str | None  # that was run, quoted as a shell would have it. Hostile
    unseen: frozenset[FaultKind]
    details: frozenset[str]  # of plan.DETAILS, and `samples`: what was recorded
    asked: frozenset[str] = frozenset()  # the same: what was asked for, told or not


MOST_POINTS = 300  # in time: as many as a chart of a screen's width can show


class Point(NamedTuple):
    """What one process did in one interval, or in some that follow each other."""

    at_ns: int  # CLOCK_MONOTONIC, the end of the last of them
    process: int  # index in Recording.last.processes
    kind: FaultKind
    faults: int  # in this time
    bytes: int


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording, read whole."""

    header: Header
    last: Snapshot  # all sums at the end of the last interval that was kept
    points: tuple[Point, ...]  # by time
    times: tuple[int, ...]  # the end of each interval, CLOCK_MONOTONIC
    closed: bool  # False: the recorder was killed, or still runs; an interval may be missing
    ended: str | None  # why it ended, when it was not as asked: the disk was full
    # Bytes that the system could still give out, at the end of each interval; None: not known.
    available: tuple[int | None, ...] = ()
    places: tuple[Place, ...] = ()  # of last.processes, where they are known

    @property
    def seconds(self) -> float:
        """From attach to the end of the last interval."""
        return (self.last.at_ns - self.last.attached_ns) / 1e9

    @property
    def ends(self) -> tuple[int, ...]:
        """CLOCK_MONOTONIC: the times that points can have, so also those without any."""
        step = together(len(self.times))
        return (*self.times[step - 1 : -1 : step], *self.times[-1:])

    def place(self, process: int) -> Place:
        """By index in last.processes."""
        return self.places[process] if self.places else NOWHERE

    def process(self, point: Point) -> Process:
        return self.last.processes[point.process]


def together(intervals: int) -> int:
    """How many intervals that follow each other make one point."""
    return max(1, -(-intervals // MOST_POINTS))
