"""Processes that have ended: taken out of the maps, kept here with their last counts."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace

from cowtrace.model import FaultKind, Process
from cowtrace.tracer.reader import RawCounts, processes


class Ledger:
    """Keeps the BPF maps no larger than the processes alive. The only state of a tracer."""

    def __init__(self, unseen: frozenset[FaultKind]) -> None:
        self.ended: list[Process] = []
        self._unseen = unseen
        self._dying: Set[int] = frozenset()

    def fold(self, raw: RawCounts, forget: Callable[[RawCounts], None]) -> RawCounts:
        """What is left of a reading without the processes that ended before the last one.

        A process keeps its place in the maps for one reading more after its end: the last
        thread still clears its thread id in user memory, which can fault. What `forget` gets
        is to be deleted from the maps.
        """
        exited = {tgid for tgid, process in raw.processes.items() if process[1]}
        done = exited & self._dying
        self._dying = exited - done
        if not done:
            return raw
        past = _part(raw, lambda tgid: tgid in done)
        self.ended += processes(past, self._unseen)
        forget(past)
        return _part(raw, lambda tgid: tgid not in done)


def _part(raw: RawCounts, keep: Callable[[int], bool]) -> RawCounts:
    faults = raw.page_faults
    return replace(
        raw,
        sums={key: value for key, value in raw.sums.items() if keep(key[0])},
        page_faults=faults and {t: v for t, v in faults.items() if keep(t)},
        processes={t: v for t, v in raw.processes.items() if keep(t)},
    )
