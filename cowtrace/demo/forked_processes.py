"""Play the demo's processes: `python -m cowtrace.demo.forked_processes BACKING PAGES UNTOUCHED`.

Play one act per line on stdin, and write one line of JSON per act to stdout: an `Answer`. It is
independent of the tracer: it reads only the clock and pagemap.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.frames.words import zero_frame
from cowtrace.workloads import pagemap
from cowtrace.workloads.outcome import Counts
from cowtrace.workloads.region import (
    PAGE_BYTES,
    REGION_START,
    Backing,
    Region,
    map_region,
    pin_to_one_cpu,
    touch_scratch,
)
from cowtrace.workloads.stepped_child import Child

_FRAME = (1 << 55) - 1  # of a pagemap entry
FILLED, BY_CHILD, BY_PARENT = 1, 2, 3  # bytes that show who wrote a page


@dataclass(frozen=True, slots=True)
class Answer:
    """What the process that did an act reports of it."""

    pid: int
    pages: int  # written, or shared by a fork
    spent_ns: int  # CLOCK_MONOTONIC around the writes, or the fork
    again_ns: int  # the same writes once more, when nothing faults; 0 when not tried
    pagemap: Counts | None  # None when frame numbers are hidden
    same_frames: int | None  # pages with one frame in both processes; None when not compared
    data_right: bool  # the other process reads the expected bytes


class Player:
    """One process of the demo."""

    def __init__(self, region: Region, zero: int | None, role: str) -> None:
        self.region = region
        self.zero = zero  # frame of the zero page; None: frames are hidden
        Path("/proc/self/comm").write_text(role)

    def write(self, start: int, end: int, value: int) -> Answer:
        """Write one byte in each page of [start, end), and look at frames before and after."""
        pages = self.region.view[start * PAGE_BYTES : end * PAGE_BYTES : PAGE_BYTES]
        data = bytes([value]) * (end - start)
        touch_scratch()
        before = self.entries(start, end)
        started = time.monotonic_ns()
        pages[:] = data
        written = time.monotonic_ns()
        after = self.entries(start, end)
        again = time.monotonic_ns()
        pages[:] = data
        done = time.monotonic_ns()
        noted = None
        if self.zero is not None:
            noted = pagemap.changes(
                before, after, backing=self.region.backing, zero=self.zero, written=True
            )
        return Answer(os.getpid(), end - start, written - started, done - again, noted, None, True)

    def reads(self, start: int, end: int, value: int) -> bool:
        """Whether each page of [start, end) begins with `value`."""
        return set(self.region.view[start * PAGE_BYTES : end * PAGE_BYTES : PAGE_BYTES]) == {value}

    def entries(self, start: int, end: int) -> list[int]:
        """Pagemap entries of the pages [start, end)."""
        return list(pagemap.read_entries(REGION_START + start * PAGE_BYTES, end - start))


class Parent(Player):
    """The process that plays the acts; it has its child do the child's part."""

    def __init__(self, backing: Backing, pages: int, untouched: int) -> None:
        region = map_region(pages + untouched, backing)
        role = "sharing parent" if backing.shared else "parent"
        super().__init__(region, zero_frame(), role)
        self.pages = pages
        self.child: Child[Player] | None = None

    def act_fill(self) -> Answer:
        """Touch every page for the first time."""
        return self.write(0, self.pages, FILLED)

    def act_read_then_write(self) -> Answer:
        """Read memory that was never written, then write it."""
        end = self.region.pages
        right = self.reads(self.pages, end, 0)
        return replace(self.write(self.pages, end, BY_PARENT), data_right=right)

    def act_fork(self) -> Answer:
        """Fork; then compare the frames of both."""
        role = "sharing child" if self.region.backing.shared else "child"
        started = time.monotonic_ns()
        self.child = Child(lambda: Player(self.region, self.zero, role))
        spent = time.monotonic_ns() - started
        # A shared mapping's pages are not in the child's page table yet.
        same = None if self.region.backing.shared else self._same_frames()
        return Answer(self.child.pid, self.pages, spent, 0, None, same, True)

    def act_child_writes_half(self) -> Answer:
        answer = self._the_child().do(Player.write, 0, self.pages // 2, BY_CHILD)
        return replace(answer, data_right=self.reads(0, self.pages // 2, FILLED))

    def act_parent_writes_same_half(self) -> Answer:
        answer = self.write(0, self.pages // 2, BY_PARENT)
        right = self._the_child().do(Player.reads, 0, self.pages // 2, BY_CHILD)
        return replace(answer, data_right=right)

    def act_parent_writes_other_half(self) -> Answer:
        answer = self.write(self.pages // 2, self.pages, BY_PARENT)
        right = self._the_child().do(Player.reads, self.pages // 2, self.pages, FILLED)
        return replace(answer, data_right=right)

    def act_child_writes_all(self) -> Answer:
        """The child writes every page; on a shared mapping the parent must read it."""
        answer = self._the_child().do(Player.write, 0, self.pages, BY_CHILD)
        right = self.reads(0, self.pages, BY_CHILD)
        return replace(answer, same_frames=self._same_frames(), data_right=right)

    def _same_frames(self) -> int | None:
        if self.zero is None:
            return None
        theirs = self._the_child().do(Player.entries, 0, self.pages)
        both = zip(self.entries(0, self.pages), theirs, strict=True)
        return sum(1 for one, other in both if one & _FRAME == other & _FRAME)

    def _the_child(self) -> Child[Player]:
        assert self.child is not None, "no act before the fork"
        return self.child


def main() -> int:
    """Play until stdin ends. Returns an exit code, after two lines on stderr if it is not 0."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the demo, which ends stdin
    pin_to_one_cpu()
    backing, pages, untouched = sys.argv[1:]
    try:
        parent = Parent(Backing(backing), int(pages), int(untouched))
        for line in sys.stdin:
            answer = getattr(parent, f"act_{line.strip().replace('-', '_')}")()
            print(json.dumps(asdict(answer)), flush=True)
    except CowtraceError as error:
        print(f"{error}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    if parent.child:
        parent.child.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
