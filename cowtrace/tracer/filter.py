"""Choose which processes a tracer counts; bpf/filter.h is the kernel's side of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cowtrace.proc import descendants
from cowtrace.tracer import abi, bpf_maps


@dataclass(frozen=True, slots=True)
class Filter:
    """Processes must match all fields that are set; without any, all are traced."""

    pids: tuple[int, ...] = ()
    follow: bool = False  # also descendants of `pids`, present and future
    cgroup: Path | None = None  # a folder of cgroup v2: tasks in it or in a descendant of it
    # A glob. All are counted, for a process can change its name; but of those that are not called
    # so, nobody finds out what samples mean.
    comm: str | None = None

    def is_called(self, comm: str) -> bool:
        """Whether `comm` chooses a process of that name."""
        return is_called(comm, self.comm)

    def seed(self, maps: Mapping[str, int]) -> None:
        """Pass the filter to attached programs. Raises OSError when the cgroup does not exist."""
        if self.cgroup is not None:
            fd = os.open(self.cgroup, os.O_RDONLY | os.O_DIRECTORY)
            try:
                bpf_maps.write_element(maps["cgroups"], 0, abi.U32.pack(fd))
            finally:
                os.close(fd)
        if not self.pids:
            return
        self._add(maps["wanted"], self.pids)
        if self.follow:
            # The fork tracepoint adds a child whose parent is in the map by then. After a second
            # look, no child can be missing. This process has only helpers so far.
            others = [pid for pid in self.pids if pid != os.getpid()]
            for _ in range(2):
                self._add(maps["wanted"], descendants(others))

    @staticmethod
    def _add(fd: int, pids: Iterable[int]) -> None:
        for pid in pids:
            bpf_maps.write_element(fd, pid, abi.U64.pack(0))


def is_called(comm: str, glob: str | None) -> bool:
    """Whether a process of that name matches. None: any does."""
    return glob is None or fnmatchcase(comm, glob)
