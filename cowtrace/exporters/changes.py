"""Snapshots, one after the other -> what each process counted since the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cowtrace.model import FaultKind, Origin, Process, Snapshot, Source
from cowtrace.views.text import fit, printable

Kind = tuple[FaultKind, Source, Origin]
_MOST = 200  # columns of a cgroup's path
_ANCESTORS = 16  # asked for their cgroup
UNKNOWN = ""  # the cgroup of a process that had ended before it could be asked for


@dataclass(frozen=True, slots=True)
class Change:
    """Faults of one process and kind since the last snapshot; below 0: taken back."""

    comm: str  # safe to show, as is the cgroup
    cgroup: str
    kind: Kind
    faults: int
    bytes: int


@dataclass(slots=True)
class _Known:
    shown: Process | None = None
    sums: dict[Kind, tuple[int, int]] = field(default_factory=dict)
    cgroup: str = UNKNOWN


class Changes:
    """Remembers the processes of the last snapshot, and no others."""

    def __init__(self, cgroup_of: Callable[[int], str | None]) -> None:
        """`cgroup_of`: the path of a process's cgroup, None: it has none or has ended."""
        self._cgroup_of = cgroup_of
        self._known: dict[tuple[int, int | None], _Known] = {}
        self._cgroups: dict[int, str] = {}  # by pid
        self._parents: dict[int, int | None] = {}

    def of(self, now: Snapshot) -> Iterator[Change]:
        """To be read to its end."""
        before, self._known = self._known, {}
        self._parents = {process.pid: process.parent for process in now.processes}
        for process in now.processes:
            # One that was born before attach gets its start when it is first looked up.
            known = before.get(process.identity) or before.get((process.pid, None)) or _Known()
            self._known[process.identity] = known
            if known.shown is not process:
                yield from self._changed(process, known)
        self._cgroups = {pid: self._known[pid, start].cgroup for pid, start in self._known}

    def group(self, process: Process) -> tuple[str, str]:
        """Its name and cgroup as they are shown."""
        return printable(process.comm), self._cgroups.get(process.pid, UNKNOWN)

    def _asked(self, pid: int) -> str | None:
        found = self._cgroup_of(pid)
        return None if found is None else fit(printable(found), _MOST)

    def _inherited(self, process: Process) -> str:
        """A child is born in its parent's: that of the nearest ancestor that is known."""
        pid = process.parent
        for _ in range(_ANCESTORS):
            if pid is None:
                break
            found = self._cgroups.get(pid) or self._asked(pid)
            if found:
                return found
            pid = self._parents.get(pid)
        return UNKNOWN

    def _changed(self, process: Process, known: _Known) -> Iterator[Change]:
        # It may have been moved since the last time.
        found = None if process.exited else self._asked(process.pid)
        known.cgroup = found or known.cgroup or self._inherited(process)
        self._cgroups[process.pid] = known.cgroup
        sums: dict[Kind, tuple[int, int]] = {}
        for row in process.rows:
            kind = row.kind, row.source, row.origin
            held = sums.get(kind, (0, 0))
            sums[kind] = held[0] + row.faults, held[1] + row.bytes
        for kind in {**known.sums, **sums}:
            faults, copied = sums.get(kind, (0, 0))
            had = known.sums.get(kind, (0, 0))
            if (faults, copied) != had:
                comm = printable(process.comm)
                yield Change(comm, known.cgroup, kind, faults - had[0], copied - had[1])
        known.shown, known.sums = process, sums
