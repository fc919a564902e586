"""Keep counts for a bounded number of labelled groups, one sum for the rest, one for the retired.

The sum over all of them is always exact, and each only grows while it stays. When there are more
groups than labels, the labels go to those that fault most now, not to those that once did: an
idle group loses its label to one that faults, and its counts move to the retired. They do not
move to the rest, whose rate therefore is that of the groups without a label.

The labels of one owner (a user's or a service's cgroup) weigh less the more it holds, so that one
user with many busy names cannot hold them all. How many labels change hands is limited: each
change makes new series in Prometheus.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

REST = "(rest)"  # no cgroup has this name: a path begins with a slash
RETIRED = "(retired)"

Group = tuple[str, str]  # comm, cgroup: printable
_REST: Group = (REST, REST)
_RETIRED: Group = (RETIRED, RETIRED)
_HALF_LIFE_SECONDS = 60.0  # of a fault's weight in the choice of groups
_TURNOVER_SECONDS = 900.0  # in which each label can change hands once
_MARGIN = 2  # a group must fault more than so many times as much as the one whose label it takes
_WAITING = 4096  # groups without a label whose faults are remembered for the choice

Key = TypeVar("Key", bound=Hashable)


class BoundedGroups(Generic[Key]):
    """Sums of faults and bytes by group and key. `most`: labelled groups."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sums: dict[Group, dict[Key, tuple[int, int]]] = {}
        self._rest: dict[Key, tuple[int, int]] = {}
        self._retired: dict[Key, tuple[int, int]] = {}
        self._scores: dict[Group, float] = {}  # faults, halved each half-life
        self._at: float | None = None
        self._changes_left = self._burst = max(1.0, most / 4)

    def add(self, changes: Iterable[tuple[Group, Key, int, int]], at_seconds: float) -> None:
        """Add the (group, key, faults, bytes) of a round; negative ones take counts back."""
        new: dict[Group, dict[Key, tuple[int, int]]] = {}
        for group, key, faults, copied in changes:
            add(new.setdefault(group, {}), key, faults, copied)
        passed = 0.0 if self._at is None else max(0.0, at_seconds - self._at)
        self._at = at_seconds
        self._score(new, passed)
        self._choose(new, passed)
        for group, sums in new.items():
            for key, both in sums.items():
                add(self._sums.get(group, self._rest), key, *both)

    def label(self, group: Group) -> Group:
        """The group's own label, or that of the rest."""
        return group if group in self._sums else _REST

    def items(self) -> Iterator[tuple[Group, Key, int, int]]:
        """Yield (label, key, faults, bytes)."""
        for group, sums in (*self._sums.items(), (_REST, self._rest), (_RETIRED, self._retired)):
            for key, (faults, copied) in sums.items():
                yield group, key, faults, copied

    def _score(self, new: dict[Group, dict[Key, tuple[int, int]]], passed: float) -> None:
        left = 0.5 ** (passed / _HALF_LIFE_SECONDS)
        scores = {group: score * left for group, score in self._scores.items()}
        for group, sums in new.items():
            counted = sum(max(0, faults) for faults, _ in sums.values())
            scores[group] = scores.get(group, 0.0) + counted
        if len(scores) > self._most + _WAITING:
            waiting = (group for group in scores if group not in self._sums)
            kept = heapq.nlargest(_WAITING, waiting, key=scores.__getitem__)
            scores = {group: scores[group] for group in (*self._sums, *kept)}
        self._scores = scores

    def _choose(self, new: Iterable[Group], passed: float) -> None:
        """Label the groups that fault most: all while labels are free, then a limited number."""
        waiting = [g for g in new if g not in self._sums and g in self._scores]
        free = self._most - len(self._sums)
        first = {*heapq.nlargest(free, waiting, key=self._scores.__getitem__)} if free else set()
        self._sums |= {group: {} for group in waiting if group in first}
        earned = passed * self._most / _TURNOVER_SECONDS
        self._changes_left = min(self._burst, self._changes_left + earned)
        if len(first) == len(waiting) or self._changes_left < 1:
            return
        held = Counter(map(_owner, self._sums))

        def weight(group: Group) -> float:
            return self._scores[group] / max(1, held[_owner(group)])

        number = int(self._changes_left)
        rising = heapq.nlargest(number, (g for g in waiting if g not in self._sums), key=weight)
        falling = heapq.nsmallest(number, self._sums, key=weight)
        pairs = zip(rising, falling, strict=False)
        taken = [(new, old) for new, old in pairs if weight(new) > _MARGIN * weight(old)]
        for group, former in taken:
            for key, both in self._sums.pop(former).items():
                add(self._retired, key, *both)
            self._sums[group] = {}
        self._changes_left -= len(taken)


def _owner(group: Group) -> str:
    """The cgroup of a user or service: /user.slice/user-1000.slice, /system.slice/x.service."""
    return "/".join(group[1].split("/")[:3])


def add(sums: dict[Key, tuple[int, int]], key: Key, faults: int, copied: int) -> None:
    """Add to the faults and bytes of a key."""
    before = sums.get(key, (0, 0))
    sums[key] = before[0] + faults, before[1] + copied
