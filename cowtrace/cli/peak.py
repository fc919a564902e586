"""Sample the memory of a process's descendants; keep the largest sums."""

from __future__ import annotations

import time

from cowtrace import proc
from cowtrace.analysis.trials import Peak
from cowtrace.frames.entries import Gone
from cowtrace.frames.smaps import rollup

SECONDS = 0.05  # between two samples
_SHARE = 20  # a sample that takes long is followed by a pause of so many times that


class Sampler:
    """The kernel reads smaps_rollup under a lock that mmap(2) needs, hence the pauses."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._next = 0.0
        self.peak = Peak()

    def look(self) -> None:
        """Take a sample, unless the last one was too near."""
        if time.monotonic() < self._next:
            return
        began = time.thread_time()  # on a busy machine, the time on the clock would be too long
        pss = private = 0
        for pid in proc.descendants([self._root]):
            try:
                sums = rollup(pid)
            except (Gone, OSError):
                continue  # it has ended
            pss += sums.pss + sums.swap
            private += sums.private
        if pss:
            self.peak = Peak(max(pss, self.peak.pss or 0), max(private, self.peak.private or 0))
        took = time.thread_time() - began
        self._next = time.monotonic() + max(SECONDS, _SHARE * took)
