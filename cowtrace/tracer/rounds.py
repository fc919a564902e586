"""End a round of counting, read what it counted from the BPF maps, and remove it there.

bpf/count.h says why: nothing of the ended round can change while it is read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from cowtrace.libc import libc
from cowtrace.tracer import abi, bpf_maps
from cowtrace.tracer.brief import BriefProcesses
from cowtrace.tracer.losses import COUNTERS
from cowtrace.tracer.packed import Packed

_NR_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283}
_MEMBARRIER_CMD_GLOBAL = 1  # returns after an RCU grace period
_TIME_OFFSETS = Path("/proc/self/timens_offsets")
_GRACE_SECONDS = 0.1  # where membarrier is refused (nohz_full): longer than any program runs


class _Key(Protocol):
    """The key of a map with two halves; a round fills that of its parity."""

    @property
    def half(self) -> int: ...
    def __iter__(self) -> Iterator[int]: ...


_K = TypeVar("_K", bound=_Key)
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Details:
    """What one round counted in detail, and what its keys refer to, without the stacks."""

    # Read as they are asked for, once: a round can have more than fit beside what is kept of them.
    sums: Iterable[tuple[abi.DetailKey, abi.DetailSum]]  # faults modulo 2**64, see abi.signed
    mappings: Mapping[abi.MappingKey, abi.Mapping]
    generations: Mapping[int, abi.Generation]  # by the kernel side's number


@dataclass(frozen=True, slots=True)
class Round:
    """What one round counted. The maps of processes and forks were read a little after its end."""

    at_ns: int  # CLOCK_MONOTONIC, its end
    end_ns: tuple[int, int]  # it ended between these; by the kernel's clock, of no time namespace
    half: int  # its parity
    sums: Mapping[abi.FaultKey, abi.FaultSum]  # faults modulo 2**64, see abi.signed
    page_faults: Mapping[int, abi.PageFaultSum] | None  # by tgid; None: not counted
    processes: Mapping[int, abi.Process]  # by tgid, without those that are brief
    details: Details | None = None  # None: not requested
    everyone: Mapping[int, abi.Process] = field(default_factory=dict)  # with those that are brief
    brief: Container[int] = ()  # tgids of those that are summed up


class Rounds:
    """Reads round after round. `maps`: file descriptors by name."""

    def __init__(
        self,
        maps: Mapping[str, int],
        *,
        cells: int,
        page_faults: bool,
        details: bool = False,
        detail_cells: bool = False,
        brief: BriefProcesses | None = None,
    ) -> None:
        self._maps = maps
        self._cells = cells  # a round; 0 when they are not used
        self._page_faults = page_faults
        self._details = details
        self._detail_cells = detail_cells
        self._brief = brief
        self._round = 0
        self._ahead_ns = ahead_ns(_TIME_OFFSETS)

    def read(self, known: Container[int] = ()) -> Round:
        """End the round; return what it counted, and all processes of the map.

        With `brief`, all but those that are brief. `known`: those of earlier rounds.
        """
        self._round += 1
        ended = self._round & 0xFFFFFFFF  # as current_round() in bpf/count.h: from 1
        at_ns = time.monotonic_ns()
        bpf_maps.write_element(self._maps["rounds"], 0, abi.U32.pack(ended))
        end_ns = at_ns - self._ahead_ns, time.monotonic_ns() - self._ahead_ns
        _wait_for_programs()
        # Neither the ended round nor these forks refer to a process that is younger.
        forks = self._generations() if self._details else None
        processes = bpf_maps.read_hash(self._maps["processes"], abi.U32, abi.PROCESS)
        cells = self._read_cells(ended)
        sums = self._sums(ended & 1, cells)
        brief = self._brief
        if brief:
            brief.choose(processes, sums, known)
            sums = brief.sums(sums)
        totals = self._totals(ended & 1) if self._page_faults else None
        details = self._read_details(ended & 1, forks, cells) if forks is not None else None
        if not brief:
            return Round(at_ns, end_ns, ended & 1, sums, totals, processes, details, processes)
        self.forget(brief.before)
        left = processes.only(processes.keys() - brief.pids)
        return Round(
            at_ns, end_ns, ended & 1, sums, totals, left, details, processes, brief.pids
        )  # fmt: skip

    def counters(self) -> tuple[int, ...]:
        """`enum counter` since loading."""
        return tuple(bpf_maps.read_array(self._maps["counters"], len(COUNTERS), abi.U64))

    def stack(self, number: int) -> tuple[int, ...] | None:
        """The addresses of one stack, innermost first; None when the map had no room for it."""
        raw = bpf_maps.read_element(self._maps["stacks"], abi.U64.pack(number), abi.STACK)
        return raw[: raw.index(0)] if raw and 0 in raw else raw

    def set_runtime(self, tgid: int, runtime: bytes) -> bool:
        """Note where an interpreter keeps its state: struct runtime. False: there is no room."""
        return bpf_maps.try_to_write(self._maps["runtimes"], tgid, runtime)

    def forget_runtimes(self, processes: Iterable[int]) -> None:
        """Their interpreters have ended."""
        bpf_maps.delete(self._maps["runtimes"], [abi.U32.pack(pid) for pid in processes])

    def mapping(self, tgid: int, start: int) -> abi.Mapping | None:
        """One mapping; None when the map had no room for it."""
        key = abi.MAPPING_KEY.pack(start, tgid)
        return bpf_maps.read_element(self._maps["mappings"], key, abi.MAPPING)

    def forget(self, processes: Mapping[int, abi.Process]) -> None:
        """Remove processes, unless another one has the pid by now."""
        fd = self._maps["processes"]
        for tgid, ended in processes.items():
            key = abi.U32.pack(tgid)
            now = bpf_maps.read_element(fd, key, abi.PROCESS)
            if now and now.start_ns == ended.start_ns:
                bpf_maps.delete(fd, [key])

    def forget_mappings(self, keys: Iterable[abi.MappingKey]) -> None:
        """Remove mappings."""
        packed = [abi.MAPPING_KEY.pack(*key) for key in keys]
        if packed:
            bpf_maps.delete(self._maps["mappings"], packed)

    def forget_generations(self, numbers: Iterable[int]) -> None:
        """Remove generations, by the number that the kernel side gave them."""
        bpf_maps.delete(self._maps["generations"], [abi.U32.pack(number) for number in numbers])

    def _generations(self) -> Packed[int, abi.Generation]:
        return bpf_maps.read_hash(self._maps["generations"], abi.U32, abi.GENERATION)

    def _take(
        self, name: str, key: abi.Layout[_K], value: abi.Layout[_V], half: int, **how: bool
    ) -> Iterator[tuple[_K, _V]]:
        """Remove and yield the elements of the ended round, whose parity is `half`."""
        fd = self._maps[name]
        for batch in bpf_maps.read_batches(fd, key, value, **how):
            ended = [item for item in batch if item[0].half == half]
            bpf_maps.delete(fd, [key.pack(*element) for element, _ in ended])
            yield from ended

    def _read_cells(self, ended: int) -> list[abi.DetailCell]:
        """Those of the ended round; without DETAIL_CELLS, they have a sum and no detail."""
        start = (ended & 1) * self._cells
        if self._detail_cells:
            fd = self._maps["detail_cells"]
            found = bpf_maps.read_parts(fd, start, self._cells, abi.DETAIL_CELL)
        else:
            fd = self._maps.get("cells", -1)
            sums = bpf_maps.read_parts(fd, start, self._cells, abi.CELL)
            found = [abi.DetailCell(each, 0, 0, 0, 0) for each in sums]
        return [cell for cell in found if cell.sum.round == ended]

    def _sums(self, half: int, cells: Iterable[abi.DetailCell]) -> dict[abi.FaultKey, abi.FaultSum]:
        sums = dict(self._take("fault_sums", abi.FAULT_KEY, abi.FAULT_SUM, half))
        for cell in cells:
            key, _, faults, copied = cell.sum
            before = sums.get(key, (0, 0))
            sums[key] = abi.FaultSum(before[0] + faults, before[1] + copied)
        return sums

    def _totals(self, half: int) -> dict[int, abi.PageFaultSum]:
        found = self._take(
            "page_faults", abi.PAGE_FAULT_KEY, abi.PAGE_FAULT_SUM, half, per_cpu=True
        )
        totals = ((key.tgid, counted) for key, counted in found)
        return self._brief.totals(totals) if self._brief else dict(totals)

    def _read_details(
        self, half: int, forks: Packed[int, abi.Generation], cells: Iterable[abi.DetailCell]
    ) -> Details:
        sums = self._take("details", abi.DETAIL_KEY, abi.DETAIL_SUM, half)
        if self._detail_cells:
            sums = chain(map(_detail, cells), sums)
        brief = self._brief
        if not brief:
            return Details(sums, self._mappings(), forks)
        others, unused = brief.forks(forks)
        mappings = self._mappings()
        self.forget_mappings(key for key in mappings if key.tgid in brief.before)
        self.forget_generations(unused)
        left = mappings.only(key for key in mappings if key.tgid not in brief.pids)
        return Details(brief.details(sums), left, forks.only(others))

    def _mappings(self) -> Packed[abi.MappingKey, abi.Mapping]:
        if "mappings" not in self._maps:  # they were not requested
            return Packed(abi.MAPPING, {})
        return bpf_maps.read_hash(self._maps["mappings"], abi.MAPPING_KEY, abi.MAPPING)


def ahead_ns(offsets: Path) -> int:
    """How far CLOCK_MONOTONIC of this process's time namespace is ahead of the kernel's."""
    with suppress(OSError):  # before 5.6, or without CONFIG_TIME_NS
        for clock, seconds, nanoseconds in map(str.split, offsets.read_text().splitlines()):
            if clock == "monotonic":
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0


def _detail(cell: abi.DetailCell) -> tuple[abi.DetailKey, abi.DetailSum]:
    tgid, _, kind, source, origin, half = cell.sum.key
    key = abi.DetailKey(
        cell.mapping, 0, 0, tgid, cell.generation, kind, source, origin, half, latency=0
    )
    return key, abi.DetailSum(cell.sum.faults, cell.sum.bytes, 0)


def _wait_for_programs() -> None:
    number = _NR_MEMBARRIER.get(os.uname().machine)
    if number is None or libc().syscall(number, _MEMBARRIER_CMD_GLOBAL, 0, 0):
        time.sleep(_GRACE_SECONDS)
