"""Stack ids in, named frames out: by BCC's symbol cache (ELF, debug files, perf maps of JITs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cowtrace.model import Stack, StackFrame
from cowtrace.tracer.reader import RawProcess

_UNKNOWN = "[unknown]"
_PYTHON = "py::"  # of CPython's perf trampolines
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
        return self.named(addresses, pid, processes)

    def named(
        self, addresses: tuple[int, ...], pid: int | None, processes: Mapping[int, RawProcess]
    ) -> Stack:
        """The first address is where it was, the others are where it would have returned to."""
        owner = pid if pid is None else self.owner(pid, processes)
        unknown = pid is not None and owner is None
        return tuple(
            # A call can be the last instruction of a function: look at the call, not behind it.
            StackFrame(_UNKNOWN, "", address) if unknown else self._frame(address, index > 0, owner)
            for index, address in enumerate(addresses)
        )

    def owner(self, pid: int, processes: Mapping[int, RawProcess]) -> int | None:
        """The process itself, or the nearest living ancestor whose memory it was forked from."""
        for _ in range(_GENERATIONS):
            if Path("/proc", str(pid), "maps").exists():
                return pid
            info = processes.get(pid)
            if info is None or not info[3]:  # born_in
                return None
            pid = info[0]
        return None

    def is_jit(self, address: int, pid: int) -> bool:
        """Whether it lies in code that a language's runtime made and named in a perf map."""
        return self._symbol(address, pid)[0].startswith(_PYTHON)

    def _frame(self, address: int, is_return: bool, owner: int | None) -> StackFrame:
        symbol, module = self._symbol(address - is_return, owner)
        return StackFrame(symbol or _UNKNOWN, module, address)
