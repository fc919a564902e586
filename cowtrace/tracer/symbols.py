"""Stack ids in, named frames out: by BCC's symbol cache (ELF, debug files, perf maps of JITs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cowtrace.model import Stack, StackFrame
from cowtrace.tracer.reader import RawProcess

_UNKNOWN = "[unknown]"
_GENERATIONS = 16  # of parents that are asked in place of a child that has ended


class Symbols:
    """Names each stack of each process once. `addresses` reads a stack by its id."""

    def __init__(
        self,
        addresses: Callable[[int], tuple[int, ...] | None],
        symbol: Callable[[int, int | None], tuple[str, str]],
    ) -> None:
        self._addresses = addresses
        self._symbol = symbol

    def stack(
        self, number: int, pid: int | None, processes: Mapping[int, RawProcess]
    ) -> Stack | None:
        """Innermost function first; pid None: of the kernel. None when it was not kept.

        A process that has ended is named by its parent, which it shares the layout of its
        memory with if it never called exec; failing that, its frames are `[unknown]`.
        """
        addresses = self._addresses(number)
        if addresses is None:
            return None
        owner = pid if pid is None else _alive(pid, processes)
        return tuple(self._frame(address, pid, owner) for address in addresses)

    def _frame(self, address: int, pid: int | None, owner: int | None) -> StackFrame:
        if pid is not None and owner is None:
            return StackFrame(_UNKNOWN, "", address)
        symbol, module = self._symbol(address, owner)
        return StackFrame(symbol or _UNKNOWN, module, address)


def _alive(pid: int, processes: Mapping[int, RawProcess]) -> int | None:
    """The process itself, or the nearest ancestor whose memory it was forked from."""
    for _ in range(_GENERATIONS):
        if Path("/proc", str(pid), "maps").exists():
            return pid
        info = processes.get(pid)
        if info is None or not info[3]:  # born_in
            return None
        pid = info[0]
    return None
