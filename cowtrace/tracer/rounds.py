"""Run one round of counting: start it, wait, read the BPF maps and clear them.

bpf/count.h says why. Nothing of the old round can change any more when it is read.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from cowtrace.tracer import abi, detail_maps, maps
from cowtrace.tracer.raw_counts import Key, RawCounts

_NR_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
_MEMBARRIER_CMD_GLOBAL = 1  # returns after an RCU grace period
_GRACE_SECONDS = 0.1  # where membarrier is refused (nohz_full): longer than any program runs


class Rounds:
    """Reads what was counted since the last reading. `map_fd` finds a map by its name."""

    def __init__(
        self, map_fd: Callable[[str], int], *, cells: int, page_faults: bool, details: bool = False
    ) -> None:
        self._fd = map_fd
        self._cells = cells  # a round; 0 when they are not used
        self._page_faults = page_faults
        self._details = details
        self._round = 0

    def read(self) -> RawCounts:
        """End the round; what it counted, and all processes that are known."""
        self._round += 1
        ended = self._round & 0xFFFFFFFF  # as current_round() in bpf/count.h: from 1
        maps.write_element(self._fd("rounds"), 0, abi.ROUND.pack(ended))
        _wait_for_programs()
        return RawCounts(
            sums=self._sums(ended),
            page_faults=self._totals(ended & 1) if self._page_faults else None,
            processes={
                key[0]: value
                for key, value in maps.read_hash(
                    self._fd("processes"), abi.TGID, abi.PROCESS, per_cpu=False
                )
            },
            details=detail_maps.read(self._fd, ended & 1) if self._details else None,
        )

    def losses(self) -> tuple[int, ...]:
        """`enum loss` since loading."""
        counted = maps.read_array(self._fd("losses"), len(abi.LOSSES), abi.COUNTER)
        return tuple(count[0] for count in counted)

    def forget(self, processes: dict[int, Any]) -> None:
        """Remove processes, unless their pid belongs to another one by now."""
        fd = self._fd("processes")
        for tgid, known in processes.items():
            key = abi.TGID.pack(tgid)
            now = maps.read_element(fd, key, abi.PROCESS)
            if now and now[2] == known[2]:  # the same start_ns
                maps.delete(fd, [key])

    def _sums(self, ended: int) -> dict[Key, tuple[int, int]]:
        fd = self._fd("fault_sums")
        half = ended & 1
        found = maps.read_hash(fd, abi.FAULT_KEY, abi.FAULT_SUM, per_cpu=False)
        old = [(key, value) for key, value in found if key[5] == half]
        maps.delete(fd, [abi.FAULT_KEY.pack(*key) for key, _ in old])
        sums: dict[Key, tuple[int, int]] = defaultdict(lambda: (0, 0))
        sums.update((_without_half(key), value) for key, value in old)
        if self._cells:
            start = half * self._cells
            cells = maps.read_parts(self._fd("cells"), start, self._cells, abi.CELL)
            for *key, number, faults, copied in cells:
                if number == ended:
                    before = sums[_without_half(key)]
                    sums[_without_half(key)] = (before[0] + faults, before[1] + copied)
        return dict(sums)

    def _totals(self, half: int) -> dict[int, tuple[int, int, int]]:
        fd = self._fd("page_faults")
        found = maps.read_hash(fd, abi.PAGE_FAULT_KEY, abi.PAGE_FAULT_SUM, per_cpu=True)
        old = [(key, value) for key, value in found if key[1] == half]
        maps.delete(fd, [abi.PAGE_FAULT_KEY.pack(*key) for key, _ in old])
        return {key[0]: (value[0], value[1], value[2]) for key, value in old}


def _without_half(key: Any) -> Key:
    tgid, actor, kind, source, origin, _ = key
    return tgid, actor, kind, source, origin


def _wait_for_programs() -> None:
    number = _NR_MEMBARRIER.get(os.uname().machine)
    if number is None or ctypes.CDLL(None).syscall(number, _MEMBARRIER_CMD_GLOBAL, 0, 0):
        time.sleep(_GRACE_SECONDS)
