"""Name the frames of stacks: by BCC's symbol cache (ELF, debug files) and perf maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cowtrace.model import Stack, StackFrame
from cowtrace.tracer import abi
from cowtrace.tracer.perf_maps import PerfMaps

_UNKNOWN = "[unknown]"
_PYTHON = "py::"  # of CPython's perf trampolines
_MOST_ANCESTORS = 16  # whose symbols name a child's frames


class Symbols:
    """Names stacks. `addresses` reads one by its id; `symbol` names an address of a process."""

    def __init__(
        self,
        addresses: Callable[[int], tuple[int, ...] | None],
        symbol: Callable[[int, int | None], tuple[str, str]],
    ) -> None:
        self._addresses = addresses
        self._symbol = symbol
        self._perf_maps = PerfMaps()
        # Caches of one round, which `processes` identifies: most stacks share a few addresses.
        self._round: Mapping[int, abi.Process] | None = None
        self._owners: dict[int, int | None] = {}
        self._seen: set[tuple[int, int]] = set()  # owners, and when they were started
        self._names: dict[tuple[int, tuple[int, ...]], tuple[str, str]] = {}

    def stack(
        self, number: int, pid: int | None, processes: Mapping[int, abi.Process]
    ) -> Stack | None:
        """Innermost function first; pid None: of the kernel. None when the map had no room for it.

        The frames of an ended process are named by its parent, whose memory has the same layout
        unless the process called exec; failing that, they are `[unknown]`.
        """
        addresses = self._addresses(number)
        if addresses is None:
            return None
        return self.named(addresses, pid, processes)

    def named(
        self, addresses: tuple[int, ...], pid: int | None, processes: Mapping[int, abi.Process]
    ) -> Stack:
        """The first address is the instruction pointer, the others are return addresses."""
        owner = pid if pid is None else self.owner(pid, processes)
        family = () if pid is None else _forked_from(pid, processes)
        # A call can be the last instruction of a function: look up the call, not what follows it.
        places = (address - (index > 0) for index, address in enumerate(addresses))
        names = (self._name(place, family, owner) for place in places)
        return tuple(
            StackFrame(symbol, module, address)
            for (symbol, module), address in zip(names, addresses, strict=True)
        )

    def owner(self, pid: int, processes: Mapping[int, abi.Process]) -> int | None:
        """The process itself, or the nearest living ancestor whose memory it was forked from.

        If none lives: the nearest one that was named before, since BCC caches its symbols.
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
        return self._runtime_name(address, _forked_from(pid, processes)).startswith(_PYTHON)

    def _name(self, address: int, family: tuple[int, ...], owner: int | None) -> tuple[str, str]:
        """(function, module); no family: the kernel's."""
        key = address, family
        if key not in self._names:
            symbol, module = "", ""
            if not family or owner is not None:
                symbol, module = self._symbol(address, owner)
            if symbol in ("", _UNKNOWN):
                symbol = self._runtime_name(address, family) or _UNKNOWN
            self._names[key] = symbol, module
        return self._names[key]

    def _runtime_name(self, address: int, family: tuple[int, ...]) -> str:
        """The name of code that a runtime generated, in this process or before it was forked."""
        names = (self._perf_maps.name(pid, address) for pid in family)
        return next((name for name in names if name), "")


def has_memory(pid: int) -> bool:
    """Whether the process lives: its files and its layout can be read."""
    return Path("/proc", str(pid), "maps").exists()


def _start_ns(pid: int, processes: Mapping[int, abi.Process]) -> int:
    """When it started, to distinguish it from a later process of its pid; 0: unknown."""
    info = processes.get(pid)
    return info.start_ns if info else 0


def _forked_from(pid: int, processes: Mapping[int, abi.Process]) -> tuple[int, ...]:
    """The process, the one whose memory it was forked from, and so on."""
    family = [pid]
    while len(family) < _MOST_ANCESTORS:
        info = processes.get(family[-1])
        if info is None or not info.created_by:
            break
        family.append(info.parent)
    return tuple(family)
