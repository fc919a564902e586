"""Keep counts for a bounded number of labelled groups, and one for all the rest.

The sum over all groups is always exact. A group that has a label only grows. When there are more
groups than labels, one that has grown to twice the smallest labelled one takes its place: what
it had counted stays in the rest, and what the other had goes there, so that the rest grows too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

REST = "(rest)"  # a cgroup's path begins with a slash, so this is none

Group = tuple[str, str]  # comm, cgroup: as they are shown
_REST: Group = (REST, REST)
_WAITING = 4096  # groups without a label whose counts are remembered

Key = TypeVar("Key", bound=Hashable)


class Groups(Generic[Key]):
    """Sums of (faults, bytes) by group and key."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sums: dict[Group, dict[Key, tuple[int, int]]] = {}
        self._rest: dict[Key, tuple[int, int]] = {}
        self._waiting: dict[Group, int] = {}  # faults since it has had no label

    def add(self, group: Group, key: Key, faults: int, copied: int) -> None:
        """Add changes; negative ones take back."""
        self._admit(group, max(0, faults))
        sums = self._sums.get(group, self._rest)
        before = sums.get(key, (0, 0))
        sums[key] = before[0] + faults, before[1] + copied

    def label(self, group: Group) -> Group:
        """Its own, or that of the rest."""
        return group if group in self._sums else _REST

    def items(self) -> Iterator[tuple[Group, Key, int, int]]:
        """(label, key, faults, bytes)."""
        for group, sums in (*self._sums.items(), (_REST, self._rest)):
            for key, (faults, copied) in sums.items():
                yield group, key, faults, copied

    def _admit(self, group: Group, faults: int) -> None:
        if group in self._sums:
            return
        if len(self._sums) < self._most:
            self._sums[group] = {}
            return
        waited = self._waiting.get(group, 0) + faults
        smallest = min(self._sums, key=self._size, default=None)
        if smallest is None or waited <= 2 * self._size(smallest):
            self._wait(group, waited)
            return
        for key, (had_faults, had_bytes) in self._sums.pop(smallest).items():
            before = self._rest.get(key, (0, 0))
            self._rest[key] = before[0] + had_faults, before[1] + had_bytes
        self._waiting.pop(group, None)
        self._sums[group] = {}

    def _size(self, group: Group) -> int:
        return sum(faults for faults, _ in self._sums[group].values())

    def _wait(self, group: Group, waited: int) -> None:
        self._waiting[group] = waited
        if len(self._waiting) > _WAITING:  # those that counted least start again
            kept = sorted(self._waiting.items(), key=lambda item: -item[1])[: _WAITING // 2]
            self._waiting = dict(kept)
