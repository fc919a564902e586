"""Forecast the chosen forks of each snapshot, and read the memory that is left for them."""

from __future__ import annotations

from cowtrace.analysis.fits import Outlook, judged
from cowtrace.analysis.forecaster import Forecaster
from cowtrace.analysis.forks import ForkRow
from cowtrace.cli.choice import Choice
from cowtrace.cli.progress import ProgressHook
from cowtrace.memory_left import memory_left
from cowtrace.model import PlaceOf, Snapshot
from cowtrace.model.memory_left import MemoryLeft

_MOST_CGROUPS = 64  # whose limits are read at one moment


class Forecasts:
    """Give it each snapshot of the chosen forks, with their rows."""

    def __init__(self, choice: Choice, progress: ProgressHook | None) -> None:
        self._forecaster = Forecaster()
        self._pids, self._progress = choice.pids, progress

    def of(self, now: Snapshot, rows: tuple[ForkRow, ...], place_of: PlaceOf) -> dict[int, Outlook]:
        """By number of the fork."""
        answer = self._progress.latest() if self._progress else None
        self._forecaster.note(now, dict.fromkeys(self._pids, answer) if answer else {})
        found = self._forecaster.forecasts(now)
        left = self._left(rows, place_of)
        live = {row.generation.number for row in rows if row.generation.ended_ns is None}
        on_machine = {number: made for number, made in found.items() if number in live}
        outlooks = {}
        for number, own in left.items():
            fits = None
            if number in on_machine:
                limit = own.cgroup.place
                beside = [
                    each for other, each in on_machine.items() if left[other].cgroup.place == limit
                ]
                fits = judged(on_machine.values(), beside, own)
            outlooks[number] = Outlook(found.get(number), own, fits)
        return outlooks

    def _left(self, rows: tuple[ForkRow, ...], place_of: PlaceOf) -> dict[int, MemoryLeft]:
        """By number of the fork; of one that has ended, only the machine's."""
        machine = memory_left(None)
        by_cgroup: dict[str, MemoryLeft] = {}
        left = {}
        for row in rows:
            owner = row.parent or row.child
            group = place_of(owner).cgroup if owner and row.generation.ended_ns is None else None
            if group and group not in by_cgroup and len(by_cgroup) < _MOST_CGROUPS:
                by_cgroup[group] = memory_left(group)
            left[row.generation.number] = by_cgroup.get(group, machine) if group else machine
        return left

    def earlier_totals(self, parent: int) -> tuple[int, ...]:
        """Bytes that the last forks of a parent copied which have ended."""
        return self._forecaster.earlier_totals(parent)
