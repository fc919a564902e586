"""Compute what each process counted since the previous snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cowtrace.model import FaultKind, Origin, Process, Snapshot, Source
from cowtrace.proc import Places
from cowtrace.text import fit, printable

Kind = tuple[FaultKind, Source, Origin]
_MOST = 200  # columns of a cgroup's path
UNKNOWN = ""  # the cgroup, if it could be read of neither the process nor an ancestor


@dataclass(frozen=True, slots=True)
class Change:
    """Faults of one process and kind since the last snapshot; negative: taken back."""

    comm: str  # safe to show, as is the cgroup
    cgroup: str
    kind: Kind
    faults: int
    bytes: int


@dataclass(slots=True)
class _Known:
    changed_in: int | None = None  # of the process
    sums: dict[Kind, tuple[int, int]] = field(default_factory=dict)
    cgroup: str = UNKNOWN


class Changes:
    """Remembers the processes of the last snapshot, and no others."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._known: dict[tuple[int, int | None], _Known] = {}
        self._cgroups: dict[int, str] = {}  # by pid

    def of(self, now: Snapshot) -> Iterator[Change]:
        """To be read to its end."""
        before, self._known = self._known, {}
        self._places.look(now)
        for process in now.processes:
            # A process created before attach gets its start time when it is first looked up.
            known = before.get(process.identity) or before.get((process.pid, None)) or _Known()
            self._known[process.identity] = known
            if known.changed_in != process.changed_in:
                yield from self._changed(process, known)
        self._cgroups = {pid: self._known[pid, start].cgroup for pid, start in self._known}

    def group(self, process: Process) -> tuple[str, str]:
        """Its name and cgroup as they are shown."""
        return printable(process.comm), self._cgroups.get(process.pid, UNKNOWN)

    def _changed(self, process: Process, known: _Known) -> Iterator[Change]:
        found = self._places.of(process).cgroup
        known.cgroup = UNKNOWN if found is None else fit(printable(found), _MOST)
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
        known.changed_in, known.sums = process.changed_in, sums
