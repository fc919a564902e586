"""Resolve addresses to named frames: BCC's symbol cache (ELF, debug files) and perf maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cowtrace.model import Stack, StackFrame
from cowtrace.tracer import abi
from cowtrace.tracer.perf_maps import PerfMaps

_UNKNOWN = "[unknown]"
_PYTHON = "py::"  # of CPython's perf trampolines
_GENERATIONS = 16  # of parents that are asked in place of a child


class Symbols:
    """Names each stack of each process once. `addresses` reads a stack by its id."""

    def __init__(
        self,
        addresses: Callable[[int], tuple[int, ...] | None],
        symbol: Callable[[int, int | None], tuple[str, str]],
    ) -> None:
        self._addresses = addresses
        self._symbol = symbol
        self._perf_maps = PerfMaps()
        # Of one round, for which `processes` stands: the same few addresses are in most stacks.
        self._round: Mapping[int, abi.Process] | None = None
        self._owners: dict[int, int | None] = {}
        self._seen: set[tuple[int, int]] = set()  # owners, and when they were started
        self._names: dict[tuple[int, tuple[int, ...]], tuple[str, str]] = {}

    def stack(
        self, number: int, pid: int | None, processes: Mapping[int, abi.Process]
    ) -> Stack | None:
        """Innermost function first; pid None: of the kernel. None when it was not kept.

        A process that has ended is named by its parent, which it shares the layout of its
        memory with if it never called exec; failing that, its frames are `[unknown]`.
        """
        addresses = self._addresses(number)
        if addresses is None:
            return None
        return self.named(addresses, pid, processes)

    def named(
        self, addresses: tuple[int, ...], pid: int | None, processes: Mapping[int, abi.Process]
    ) -> Stack:
        """The first address is where it was, the others are where it would have returned to."""
        owner = pid if pid is None else self.owner(pid, processes)
        family = () if pid is None else _forked_from(pid, processes)
        # A call can be the last instruction of a function: look at the call, not behind it.
        places = (address - (index > 0) for index, address in enumerate(addresses))
        names = (self._known(place, family, owner) for place in places)
        return tuple(
            StackFrame(symbol, module, address)
            for (symbol, module), address in zip(names, addresses, strict=True)
        )

    def owner(self, pid: int, processes: Mapping[int, abi.Process]) -> int | None:
        """The process itself, or the nearest living ancestor whose memory it was forked from.

        None of them living: the nearest that was named before, whose symbols are still at hand.
        """
        if processes is not self._round:
            self._round = processes
            self._owners.clear()
            self._names.clear()
        if pid not in self._owners:
            family = _forked_from(pid, processes)
            owner = next((pid for pid in family if has_memory(pid)), None)
            if owner is not None:
                self._seen.add((owner, _start_ns(owner, processes)))
            else:
                seen = (p for p in family if (p, _start_ns(p, processes)) in self._seen)
                owner = next(seen, None)
            self._owners[pid] = owner
        return self._owners[pid]

    def is_trampoline(self, address: int, pid: int, processes: Mapping[int, abi.Process]) -> bool:
        """Whether it lies in one of CPython's perf trampolines."""
        return self._made(address, _forked_from(pid, processes)).startswith(_PYTHON)

    def _known(self, address: int, family: tuple[int, ...], owner: int | None) -> tuple[str, str]:
        key = address, family
        if key not in self._names:
            self._names[key] = self._name(address, family, owner)
        return self._names[key]

    def _name(self, address: int, family: tuple[int, ...], owner: int | None) -> tuple[str, str]:
        """(function, module); no family: the kernel's."""
        symbol, module = "", ""
        if not family or owner is not None:
            symbol, module = self._symbol(address, owner)
        if symbol in ("", _UNKNOWN):
            symbol = self._made(address, family) or _UNKNOWN
        return symbol, module

    def _made(self, address: int, family: tuple[int, ...]) -> str:
        """The name of code that a runtime made, by this process or before it was forked."""
        names = (self._perf_maps.name(pid, address) for pid in family)
        return next((name for name in names if name), "")


def has_memory(pid: int) -> bool:
    """Whether the process lives: its files and its layout can be read."""
    return Path("/proc", str(pid), "maps").exists()


def _start_ns(pid: int, processes: Mapping[int, abi.Process]) -> int:
    """Tells a process from a later one of its pid; 0: not known."""
    info = processes.get(pid)
    return info.start_ns if info else 0


def _forked_from(pid: int, processes: Mapping[int, abi.Process]) -> tuple[int, ...]:
    """The process, the one whose memory it was forked from, and so on."""
    family = [pid]
    while len(family) < _GENERATIONS:
        info = processes.get(family[-1])
        if info is None or not info.born_in:
            break
        family.append(info.parent)
    return tuple(family)
