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
        self._before: dict[int, DetailRow] = {}  # by the number of their sums
        self._new: dict[Hashable, DetailRow] = {}

    def add(self, rows: tuple[DetailRow, ...]) -> None:
        """Rows of a tracer. One that was absent is new as a whole."""
        for row in rows:
            before = self._before.get(row.number)
            if before is row:  # it did not change
                continue
            faults, size = (before.faults, before.bytes) if before else (0, 0)
            self._add(row, faults=row.faults - faults, size=row.bytes - size)
        self._before = {row.number: row for row in rows}

    @property
    def pids(self) -> set[int]:
        """Of what was added since the last `take()`."""
        return {row.pid for row in self._new.values()}

    def take(self) -> tuple[DetailRow, ...]:
        """All that was added since the last time."""
        rows = tuple(self._new.values())
        self._new.clear()
        return rows

    def _add(self, row: DetailRow, *, faults: int, size: int) -> None:
        key, more = _key(row), replace(row, faults=faults, bytes=size)
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
