"""Sum up what rows of details grew by, from one snapshot to the next; make a profile of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace

from cowtrace.analysis.profile import Profile, profile
from cowtrace.model import ENDED_PID, DetailRow, Process, Snapshot

_MOST = 1 << 15  # new rows; the sums of more are one row of each kind, of PID 0 and without a stack


class NewRows:
    """What was added since the last `take()`. Give it the rows of each snapshot."""

    def __init__(self) -> None:
        # By id, since a row that did not change is one object: the row and its key.
        self._before: dict[int, tuple[DetailRow, Hashable]] = {}
        self._new: dict[Hashable, DetailRow] = {}

    def add(self, rows: tuple[DetailRow, ...]) -> None:
        """A row that was absent, or whose sums are below those from before, began anew."""
        sums = {key: (row.faults, row.bytes) for row, key in self._before.values()}
        now = {}
        for row in rows:
            known = self._before.get(id(row))
            key = known[1] if known else _key(row)
            now[id(row)] = row, key
            if known:
                continue
            faults, size = sums.get(key, (0, 0))
            if row.faults < faults or row.bytes < size:
                faults = size = 0
            self._add(key, replace(row, faults=row.faults - faults, bytes=row.bytes - size))
        self._before = now

    @property
    def pids(self) -> set[int]:
        """Of what was added since the last `take()`."""
        return {row.pid for row in self._new.values()}

    def take(self) -> tuple[DetailRow, ...]:
        """All that was added since the last time."""
        rows = tuple(self._new.values())
        self._new.clear()
        return rows

    def _add(self, key: Hashable, more: DetailRow) -> None:
        if key not in self._new and len(self._new) >= _MOST:
            more = replace(
                more, pid=ENDED_PID, generation=None, mapping=None, user_stack=None,
                kernel_stack=None, written=None,
            )  # fmt: skip
            key = _key(more)
        had = self._new.get(key)
        if had:
            more = replace(more, faults=had.faults + more.faults, bytes=had.bytes + more.bytes)
        self._new[key] = more


class NewProfile:
    """The samples of copies that were added since the last `take()`, with names and cgroups.

    A process can have left the snapshot by then: what is known of it is kept with its samples.
    """

    def __init__(self, cgroups: Callable[[Snapshot, Collection[int]], Mapping[int, str]]) -> None:
        """`cgroups`: finds those of processes of a snapshot, by PID."""
        self._find = cgroups
        self._rows = NewRows()
        self._processes: dict[int, Process] = {}
        self._cgroups: dict[int, str] = {}

    def add(self, now: Snapshot) -> None:
        """Add the samples of the next snapshot."""
        self._rows.add(now.samples)
        pids = self._rows.pids
        self._processes |= {each.pid: each for each in now.processes if each.pid in pids}
        self._cgroups.update(self._find(now, pids))

    def take(self, now: Snapshot) -> Profile | None:
        """What was added up to this snapshot; None: nothing."""
        known = replace(now, processes=tuple(self._processes.values()))
        rows, cgroups = self._rows.take(), self._cgroups
        self._processes, self._cgroups = {}, {}
        return profile(known, rows, cgroups, copies_only=True) if rows else None


def _key(row: DetailRow) -> Hashable:
    return (
        *(row.pid, row.kind, row.source, row.origin, row.generation, row.mapping),
        *(row.user_stack, row.kernel_stack, row.written),
    )
