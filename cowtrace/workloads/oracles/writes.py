"""Count one thread's page faults and copies exactly while it writes.

Page faults come from getrusage(2), copies from the kernel's taskstats.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cowtrace.workloads.oracles.proc_files import vmstat
from cowtrace.workloads.oracles.taskstats import wp_copies
from cowtrace.workloads.outcome import total
from cowtrace.workloads.region import Region, scratch_region

_REHEARSALS = 16
_QUIET_REHEARSALS = 2  # in a row: one may be chance
_WARM_UP = 10  # rehearsals at least: CPython 3.11 rewrites a function's code at its 8th call


@dataclass(slots=True)
class Writes:
    """Sums over all writes. None: the kernel does not count, or the interpreter faulted too."""

    wp_copies: int | None = 0  # as taskstats counts them
    page_faults: int | None = 0  # as getrusage(2) counts them
    re_marks: int | None = 0  # of all processes, as pgreuse in /proc/vmstat counts them
    spent_ns: int = 0
    pages: int = 0  # a page written twice counts twice

    def count(self, write: Callable[[Region], object], region: Region) -> None:
        """Write a region, and count this thread's faults during the write.

        After fork the interpreter's own memory faults too. So the write is rehearsed in other
        mapped memory, until a rehearsal faults no more.
        """
        with scratch_region(region.pages) as scratch, wp_copies() as copies:
            quiet = 0
            for number in range(1, _REHEARSALS + 1):
                rehearsed = _during(write, scratch, copies)
                quiet = 0 if rehearsed.faults or rehearsed.other_faults else quiet + 1
                if number >= _WARM_UP and quiet >= _QUIET_REHEARSALS:
                    break
            with memoryview(region.view):  # this object's own memory is written to as well
                pass
            written = _during(write, region, copies)
        at_rest = quiet >= _QUIET_REHEARSALS
        exact = at_rest and not written.other_faults
        self.wp_copies = total((self.wp_copies, written.copies if exact else None))
        self.page_faults = total((self.page_faults, written.faults if at_rest else None))
        self.re_marks = total((self.re_marks, written.re_marks))
        self.spent_ns += written.spent_ns
        self.pages += region.pages

    def forget(self) -> None:
        """Mark the counts as unknown: a write was not counted."""
        self.wp_copies = self.page_faults = self.re_marks = None


class _During(NamedTuple):
    copies: int | None
    faults: int
    other_faults: int  # by the measurement itself: its copies are in `copies`
    spent_ns: int
    re_marks: int | None  # by all processes


def _during(
    write: Callable[[Region], object], region: Region, copies: Callable[[], int | None]
) -> _During:
    # Outside of what is counted, and in each rehearsal, too: it takes memory.
    re_marked = vmstat("pgreuse")
    first = _page_faults()
    before = copies()
    second = _page_faults()
    start_ns = time.perf_counter_ns()
    write(region)
    spent_ns = time.perf_counter_ns() - start_ns
    third = _page_faults()
    after = copies()
    last = _page_faults()
    re_marks = _difference(re_marked, vmstat("pgreuse"))
    copied = _difference(before, after)
    return _During(copied, third - second, last - first - (third - second), spent_ns, re_marks)


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _page_faults() -> int:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_minflt + usage.ru_majflt  # major: the page was read from a disk
