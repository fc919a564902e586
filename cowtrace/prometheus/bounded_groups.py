"""Keep counts for a bounded number of labelled groups, and one sum for the rest.

The sum over all groups is always exact. A labelled group only grows. When there are more groups
than labels, a group that has grown to twice the smallest labelled one takes its label. Its earlier
counts stay in the rest, and those of the group that lost the label move there: the rest only grows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

REST = "(rest)"  # no cgroup has this name: a path begins with a slash

Group = tuple[str, str]  # comm, cgroup: printable
_REST: Group = (REST, REST)
_WAITING = 4096  # groups without a label whose counts are kept

Key = TypeVar("Key", bound=Hashable)


class BoundedGroups(Generic[Key]):
    """Sums of faults and bytes by group and key. `most`: labelled groups."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sums: dict[Group, dict[Key, tuple[int, int]]] = {}
        self._rest: dict[Key, tuple[int, int]] = {}
        self._waiting: dict[Group, int] = {}  # faults since it lost or lacked a label

    def add(self, group: Group, key: Key, faults: int, copied: int) -> None:
        """Add a change; a negative one takes counts back."""
        self._admit(group, max(0, faults))
        add(self._sums.get(group, self._rest), key, faults, copied)

    def label(self, group: Group) -> Group:
        """The group's own label, or that of the rest."""
        return group if group in self._sums else _REST

    def items(self) -> Iterator[tuple[Group, Key, int, int]]:
        """Yield (label, key, faults, bytes)."""
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
            self._waiting[group] = waited
            if len(self._waiting) > _WAITING:  # keep the larger half: the others start again
                kept = sorted(self._waiting.items(), key=lambda item: -item[1])[: _WAITING // 2]
                self._waiting = dict(kept)
            return
        for key, sums in self._sums.pop(smallest).items():
            add(self._rest, key, *sums)
        self._waiting.pop(group, None)
        self._sums[group] = {}

    def _size(self, group: Group) -> int:
        return sum(faults for faults, _ in self._sums[group].values())


def add(sums: dict[Key, tuple[int, int]], key: Key, faults: int, copied: int) -> None:
    """Add to the faults and bytes of a key."""
    before = sums.get(key, (0, 0))
    sums[key] = before[0] + faults, before[1] + copied
