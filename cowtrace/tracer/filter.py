"""Which processes a tracer counts; the kernel's side of it is bpf/filter.h."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cowtrace.tracer import abi, maps


@dataclass(frozen=True, slots=True)
class Filter:
    """Everything is counted unless something is named; what is named must all hold."""

    pids: tuple[int, ...] = ()
    follow: bool = False  # and their descendants, those born later too
    cgroup: Path | None = None  # a folder of cgroup v2: tasks in it or below it

    def seed(self, map_fd: Callable[[str], int]) -> None:
        """Tell the programs, once they are attached. Raises OSError: no such cgroup."""
        if self.cgroup is not None:
            fd = os.open(self.cgroup, os.O_RDONLY | os.O_DIRECTORY)
            try:
                maps.write_element(map_fd("cgroups"), 0, abi.U32.pack(fd))
            finally:
                os.close(fd)
        if not self.pids:
            return
        self._add(map_fd("wanted"), self.pids)
        if self.follow:
            # A child forked meanwhile is added by the fork tracepoint if its parent is in by
            # then: after a second look no fork can have slipped through.
            for _ in range(2):
                self._add(map_fd("wanted"), _descendants(self.pids))

    @staticmethod
    def _add(fd: int, pids: Iterable[int]) -> None:
        for pid in pids:
            maps.write_element(fd, pid, abi.U32.pack(1))


def _descendants(roots: Iterable[int]) -> set[int]:
    """Processes below `roots` now, as /proc tells it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name is in parentheses and can hold any byte: fields count from the last one.
                stat = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                children.setdefault(int(stat[1]), []).append(int(entry.name))
    found: set[int] = set()
    rest = list(roots)
    while rest:
        below = children.get(rest.pop(), [])
        rest += [pid for pid in below if pid not in found]
        found.update(below)
    return found
