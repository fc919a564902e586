"""Keep and number fork generations from round to round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cowtrace.model import Ending, ForkGeneration
from cowtrace.tracer import abi

_UNKNOWN_PAGES = (1 << 64) - 1


@dataclass(slots=True)
class _Kept:
    shown: ForkGeneration
    previous: int  # the kernel side's number


class Generations:
    """Numbers forks in their order in time. `open` ones are those in the kernel's map."""

    def __init__(self, page_bytes: int) -> None:
        self._page_bytes = page_bytes
        self._open: dict[int, _Kept] = {}  # by the kernel side's number
        self._numbers: dict[int, int] = {}  # of all since attach
        self._done: list[ForkGeneration] = []
        self._last = 0
        self._shown: tuple[ForkGeneration, ...] | None = ()

    def update(self, raw: Mapping[int, abi.Generation]) -> None:
        """Take what the map holds now."""
        new = sorted(
            (value.at_ns, number) for number, value in raw.items() if number not in self._open
        )
        for _, number in new:
            self._last += 1
            self._numbers[number] = self._last
            self._open[number] = _Kept(self._first(raw[number]), raw[number].previous)
            self._shown = None
        for number, value in raw.items():
            kept = self._open[number]
            if value.ended_ns and kept.shown.ended_ns is None:
                ending = Ending.EXEC if value.executed else Ending.EXIT
                kept.shown = replace(kept.shown, ended_ns=value.ended_ns, ended_by=ending)
                self._shown = None

    def number(self, raw_number: int) -> int | None:
        """As users see it; None when the copy counts to no fork."""
        return self._numbers.get(raw_number)

    def add_copied(self, raw_number: int, pid: int, copied: int) -> None:
        """Bytes that one side copied; `copied` below 0 takes back."""
        kept = self._open.get(raw_number)
        if kept is None or not copied:
            return
        self._shown = None
        if pid == kept.shown.parent:
            total = kept.shown.parent_copied_bytes + copied
            kept.shown = replace(kept.shown, parent_copied_bytes=total)
        elif pid == kept.shown.child:
            total = kept.shown.child_copied_bytes + copied
            kept.shown = replace(kept.shown, child_copied_bytes=total)

    def close(self, processes: Mapping[int, abi.Process]) -> list[int]:
        """Those that no copy can count to any more: the kernel side may forget them.

        One whose child has ended may still link its parent to an earlier fork, and one whose
        child has exited gets counts for as long as the process is known.
        """
        linked = {kept.previous for kept in self._open.values()}
        for info in processes.values():
            linked |= {info.born_in, info.last_fork}
        gone = [
            number
            for number, kept in self._open.items()
            if kept.shown.ended_ns is not None and number not in linked
        ]
        for number in gone:
            self._done.append(self._open.pop(number).shown)
        return gone

    def forget_ended(self) -> set[int]:
        """Show those no more that no copy can count to; the kernel side's numbers of these."""
        self._done.clear()
        gone = self._numbers.keys() - self._open.keys()
        for number in gone:
            del self._numbers[number]
        self._shown = None
        return gone

    def all(self) -> tuple[ForkGeneration, ...]:
        """By number; the same tuple as long as nothing has changed."""
        if self._shown is None:
            everything: Iterable[ForkGeneration] = (
                *self._done,
                *(kept.shown for kept in self._open.values()),
            )
            self._shown = tuple(sorted(everything, key=lambda g: g.number))
        return self._shown

    def _first(self, raw: abi.Generation) -> ForkGeneration:
        known = raw.shareable_pages != _UNKNOWN_PAGES
        return ForkGeneration(
            number=self._last,
            parent=raw.parent,
            child=raw.child,
            at_ns=raw.at_ns,
            shareable_bytes=raw.shareable_pages * self._page_bytes if known else None,
            ended_ns=None,
            ended_by=None,
            parent_copied_bytes=0,
            child_copied_bytes=0,
        )
