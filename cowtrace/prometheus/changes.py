"""Compute what each process counted since the previous snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from cowtrace.model import FaultKind, FaultRow, Origin, Process, Snapshot, Source
from cowtrace.proc import Places
from cowtrace.prometheus.bounded_groups import Group, add
from cowtrace.text import fit, printable

Kind = tuple[FaultKind, Source, Origin]
_MOST = 200  # terminal cells of a cgroup's path
_UNKNOWN = ""  # the cgroup, where it could be read neither for the process nor for an ancestor


class Change(NamedTuple):
    """Faults of one group and kind since the last snapshot; negative: taken back."""

    group: Group
    kind: Kind
    faults: int
    bytes: int


@dataclass(slots=True)
class _Known:
    changed_in: int | None = None  # the process's
    rows: tuple[FaultRow, ...] = ()  # the process's own: a storm of processes takes no more memory
    cgroup: str = _UNKNOWN


class Changes:
    """Compares each snapshot with the one before. Keeps the processes of the last one only."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._known: dict[tuple[int, int | None], _Known] = {}
        self._cgroups: dict[int, str] = {}  # by pid

    def of(self, now: Snapshot) -> Iterator[Change]:
        """Yield the changes; read them to the end before the next snapshot."""
        before, self._known = self._known, {}
        self._places.look(now)
        for process in now.processes:
            # A process created before attach gets its start time when it is first looked up.
            known = before.get(process.identity) or before.get((process.pid, None)) or _Known()
            self._known[process.identity] = known
            if known.changed_in != process.changed_in:
                yield from self._changed(process, known)
        self._cgroups = {pid: self._known[pid, start].cgroup for pid, start in self._known}

    def group(self, process: Process) -> Group:
        """The name and cgroup of a process, printable."""
        return printable(process.comm), self._cgroups.get(process.pid, _UNKNOWN)

    def _changed(self, process: Process, known: _Known) -> Iterator[Change]:
        found = self._places.of(process).cgroup
        known.cgroup = _UNKNOWN if found is None else fit(printable(found), _MOST)
        sums, before = _sums(process.rows), _sums(known.rows)
        for kind in {**before, **sums}:
            faults, copied = sums.get(kind, (0, 0))
            had = before.get(kind, (0, 0))
            if (faults, copied) != had:
                group = printable(process.comm), known.cgroup
                yield Change(group, kind, faults - had[0], copied - had[1])
        known.changed_in, known.rows = process.changed_in, process.rows


def _sums(rows: Iterable[FaultRow]) -> dict[Kind, tuple[int, int]]:
    sums: dict[Kind, tuple[int, int]] = {}
    for row in rows:
        add(sums, (row.kind, row.source, row.origin), row.faults, row.bytes)
    return sums
