"""Number fork generations in the order of their forks, and sum what each side copied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

from cowtrace.model import Ending, ForkGeneration
from cowtrace.tracer import abi

_UNKNOWN = _END_OF_TIME = (1 << 64) - 1


class _Fork(Protocol):
    @property
    def previous(self) -> int: ...


def linked(roots: Iterable[int], forks: Mapping[int, _Fork]) -> set[int]:
    """These forks and those before each, as far as they are known: copies may be theirs."""
    found: set[int] = set()
    for number in roots:
        while number in forks and number not in found:
            found.add(number)
            number = forks[number].previous
    return found


@dataclass(slots=True)
class _Open:
    shown: ForkGeneration
    previous: int  # the kernel side's number
    stalled: int = 0  # ns in the first second: of the other half, as of the round before


class Generations:
    """All forks since attach. Open ones are those in the kernel side's map."""

    def __init__(self, page_bytes: int, *, timed: bool = False) -> None:
        """`timed`: the kernel side times faults."""
        self._page_bytes = page_bytes
        self._timed = timed
        self._open: dict[int, _Open] = {}  # by the kernel side's number
        self._later: dict[int, abi.Generation] = {}  # likewise, of the round that has begun
        self._numbers: dict[int, int] = {}  # of all since attach
        self._closed: list[ForkGeneration] = []
        self._last = 0
        self._shown: tuple[ForkGeneration, ...] | None = ()

    def update(
        self,
        raw: Mapping[int, abi.Generation],
        end: tuple[int, int] = (_END_OF_TIME, _END_OF_TIME),
        half: int = 0,
    ) -> None:
        """Take over what the map holds now, of the time until the round's end.

        What came later waits, as its copies do: a fork that was closed would not get them. `end`:
        the round ended between these times; `half`: its parity.
        """
        surely_ns, until_ns = end
        unknown = {number: value for number, value in raw.items() if number not in self._open}
        self._later = {n: value for n, value in unknown.items() if value.at_ns > until_ns}
        new = sorted((unknown[n].at_ns, n) for n in unknown.keys() - self._later.keys())
        for _, number in new:
            self._last += 1
            self._numbers[number] = self._last
            self._open[number] = _Open(self._first(raw[number]), raw[number].previous)
            self._shown = None
        for number, value in raw.items():
            if number in self._later:
                continue
            entry = self._open[number]
            if 0 < value.ended_ns <= surely_ns and entry.shown.ended_ns is None:
                ending = Ending.EXEC if value.executed else Ending.EXIT
                entry.shown = replace(entry.shown, ended_ns=value.ended_ns, ended_by=ending)
                self._shown = None
            stalled = value.first_second_ns[half]
            if self._timed and stalled + entry.stalled != entry.shown.first_second_ns:
                entry.shown = replace(entry.shown, first_second_ns=stalled + entry.stalled)
                self._shown = None
            entry.stalled = stalled

    def number(self, raw_number: int) -> int | None:
        """The number that users see; None when the copy is attributed to no fork."""
        return self._numbers.get(raw_number)

    def add_copied(self, raw_number: int, pid: int, copied: int) -> None:
        """Add bytes that one side copied; below 0, take them back."""
        entry = self._open.get(raw_number)
        if entry is None or not copied:
            return
        self._shown = None
        if pid == entry.shown.parent:
            total = entry.shown.parent_copied_bytes + copied
            entry.shown = replace(entry.shown, parent_copied_bytes=total)
        elif pid == entry.shown.child:
            total = entry.shown.child_copied_bytes + copied
            entry.shown = replace(entry.shown, child_copied_bytes=total)

    def close(self, processes: Mapping[int, abi.Process]) -> list[int]:
        """Close those that no copy can be attributed to any more; the kernel side may forget them.

        One whose child has ended may still link its parent to an earlier fork, and one whose
        child has exited gets counts until the process is forgotten.
        """
        roots = [n for info in processes.values() for n in (info.created_by, info.last_fork)]
        roots += [number for number, entry in self._open.items() if entry.shown.ended_ns is None]
        needed = linked(chain(roots, self._later), {**self._later, **self._open})
        gone = sorted(self._open.keys() - needed)
        for number in gone:
            self._closed.append(self._open.pop(number).shown)
        return gone

    def forget_ended(self) -> set[int]:
        """Leave out closed ones from now on; returns the kernel side's numbers of these."""
        self._closed.clear()
        gone = self._numbers.keys() - self._open.keys()
        for number in gone:
            del self._numbers[number]
        self._shown = None
        return gone

    def all(self) -> tuple[ForkGeneration, ...]:
        """By number; the same tuple as long as nothing has changed."""
        if self._shown is None:
            everything: Iterable[ForkGeneration] = (
                *self._closed,
                *(entry.shown for entry in self._open.values()),
            )
            self._shown = tuple(sorted(everything, key=lambda g: g.number))
        return self._shown

    def _first(self, raw: abi.Generation) -> ForkGeneration:
        return ForkGeneration(
            number=self._last,
            parent=raw.parent,
            child=raw.child,
            at_ns=raw.at_ns,
            shareable_bytes=_known(raw.shareable_pages, self._page_bytes),
            ended_ns=None,
            ended_by=None,
            parent_copied_bytes=0,
            child_copied_bytes=0,
            fork_ns=raw.fork_ns or None,
            lock_ns=raw.lock_ns or None,
            page_table_bytes=_known(raw.page_table_bytes),
            fork_copied_bytes=_known(raw.copied_pages, self._page_bytes),
            first_second_ns=0 if self._timed else None,
        )


def _known(number: int, times: int = 1) -> int | None:
    return None if number == _UNKNOWN else number * times
