"""Unwind user stacks from registers and a copy of the stack, by DWARF tables."""

from __future__ import annotations

import ctypes as c
from collections.abc import Callable
from dataclasses import dataclass

from cowtrace.kernel import arch
from cowtrace.symbolizer import libdw
from cowtrace.symbolizer.libdw import Word
from cowtrace.symbolizer.memory_map import Mapping
from cowtrace.symbolizer.messages import MOST_FRAMES as _DEPTH
from cowtrace.symbolizer.traced_process import Open, TracedProcess

_ARCH = arch.this()
_SP, _IP = _ARCH.stack_pointer, _ARCH.instruction_pointer
_STOP = 1  # DWARF_CB_ABORT
_THREAD = 1  # libdw wants a number; it has no process to look at


@dataclass(frozen=True, slots=True)
class Dump:
    """The user-mode state of one thread at one moment."""

    regs: tuple[int, ...]  # in DWARF's order
    stack: bytes  # from its pointer on

    @staticmethod
    def of(pt_regs: tuple[int, ...], stack: bytes) -> Dump:
        """From struct pt_regs."""
        return Dump(tuple(pt_regs[i] for i in _ARCH.dwarf_order), stack)

    def word(self, address: int) -> int | None:
        """Eight bytes of the stack; None: outside of the dump."""
        at = address - self.regs[_SP]
        if not 0 <= at <= len(self.stack) - 8:
            return None
        return int.from_bytes(self.stack[at : at + 8], "little")


class Unwinder:
    """Unwinds threads of one process. Only files that its stacks go through are opened."""

    def __init__(self, process: TracedProcess) -> None:
        self._lib = libdw.libdw()
        self._process = process
        self._open: Open = _nothing
        self._dump = Dump((0,) * len(_ARCH.dwarf_order), b"")
        self._found: list[int] = []
        self._last: tuple[int, ...] = ()  # registers of the outermost frame, DWARF's order
        self._thread_callbacks = libdw.ThreadCallbacks(
            libdw.NextThread(lambda dwfl, arg, thread: 0),
            libdw.GetThread(self._get_thread),
            libdw.MemoryRead(self._read),
            libdw.SetRegisters(self._set_registers),
            None,
            None,
        )
        self._each = libdw.EachFrame(self._frame)
        self._dwfl = self._lib.dwfl_begin(c.byref(libdw.WITHOUT_DEBUG_FILES))
        self._seen: set[Mapping] = set()
        self._reported: set[tuple[int, int]] = set()  # files and where their address 0 would be
        self._is_attached = False

    def is_mapped(self, address: int) -> bool:
        """Whether libdw knows the file that is mapped at an address."""
        return bool(self._lib.dwfl_addrmodule(self._dwfl, address))

    def addresses(
        self, dump: Dump, is_trampoline: Callable[[int], bool], open_: Open
    ) -> tuple[int, ...]:
        """The instruction pointer, then return addresses, as many as can be unwound.

        `is_trampoline`: whether an address lies in one of CPython's perf trampolines, which are
        stepped over, since no file describes them.
        """
        self._open = open_
        found: list[int] = [dump.regs[_IP]]
        while len(found) < _DEPTH:
            self._unwind(dump)
            found += self._found[1:]
            if not self._found or not self._last or not is_trampoline(self._found[-1] - 1):
                break
            beyond = self._over_trampoline()
            if beyond is None:
                break
            dump = beyond
            found.append(dump.regs[_IP])
        return tuple(found[:_DEPTH])

    def close(self) -> None:
        """Idempotent."""
        dwfl, self._dwfl = self._dwfl, None
        if dwfl:
            self._lib.dwfl_end(dwfl)

    def _unwind(self, dump: Dump) -> None:
        """Fill _found and _last; again for each file that the stack turns out to go through."""
        self._report(dump.regs[_IP])
        while True:
            self._dump, self._found, self._last = dump, [], ()
            if self._is_attached:
                self._lib.dwfl_getthread_frames(self._dwfl, _THREAD, self._each, None)
            else:
                self._found, self._last = [dump.regs[_IP]], dump.regs
            if not self._last or not self._report(self._found[-1] - 1):
                return

    def _report(self, address: int) -> bool:
        """Report the file at an address to libdw. False: it knows the file, or there is none."""
        mapping = self._process.mapping(address)
        if mapping is None or mapping in self._seen:
            return False
        self._seen.add(mapping)
        file = self._process.file(mapping, self._open)
        at = file.virtual_address(mapping.offset) if file else None
        if (
            file is None
            or at is None
            or (place := (id(file), mapping.start - at)) in self._reported
        ):
            return False
        self._reported.add(place)
        self._lib.dwfl_report_begin_add(self._dwfl)
        file.report_to(self._dwfl, mapping.start - at)
        self._lib.dwfl_report_end(self._dwfl, None, None)
        if not self._is_attached:
            self._is_attached = self._lib.dwfl_attach_state(
                self._dwfl, None, _THREAD, c.byref(self._thread_callbacks), None
            )
        return self.is_mapped(address)

    def _over_trampoline(self) -> Dump | None:
        """The caller of CPython's trampoline, whose frame has 16 bytes: the upper eight are the
        return address, the lower eight the caller's frame pointer on arm64 and unused on x86-64.
        """
        stack = self._last[_SP]
        back = self._dump.word(stack + 8)
        if back is None:
            return None
        regs = list(self._last)
        regs[_SP], regs[_IP] = stack + 16, _bare(back)
        if _ARCH.frame_pointer is not None:
            regs[_ARCH.frame_pointer] = self._dump.word(stack) or 0
        return Dump(tuple(regs), self._dump.stack[regs[_SP] - self._dump.regs[_SP] :])

    def _get_thread(self, dwfl: int, tid: int, arg: None, thread: object) -> bool:
        thread[0] = 1  # type: ignore[index]
        return True

    def _read(self, dwfl: int, address: int, result: object, arg: None) -> bool:
        word = self._dump.word(address)
        if word is None:
            return False
        result[0] = self._unsigned(word)  # type: ignore[index]
        return True

    def _set_registers(self, thread: int, arg: None) -> bool:
        count = len(self._dump.regs) - (not _ARCH.pc_is_numbered)
        regs = (Word * count)(*map(self._unsigned, self._dump.regs[:count]))
        if not self._lib.dwfl_thread_state_registers(thread, 0, count, regs):
            return False
        if not _ARCH.pc_is_numbered:
            self._lib.dwfl_thread_state_register_pc(thread, self._dump.regs[_IP])
        return True

    def _unsigned(self, word: int) -> int:
        """A word of memory; a signed return address loses its signature.

        A word counts as one if it has bits above an address, and the address lies in a file.
        """
        address = _bare(word)
        return address if address != word and self.is_mapped(address) else word

    def _frame(self, state: int, arg: None) -> int:
        address, exact = Word(), c.c_bool()
        if not self._lib.dwfl_frame_pc(state, c.byref(address), c.byref(exact)):
            return _STOP
        at = _bare(address.value)
        self._found.append(at)
        self._last = ()
        if not self.is_mapped(at - 1):
            self._last = self._registers(state, at)
            return _STOP
        return 0 if len(self._found) < _DEPTH else _STOP

    def _registers(self, state: int, address: int) -> tuple[int, ...]:
        """The registers of a frame: those that callees save, 0 for the others."""
        regs = [0] * len(_ARCH.dwarf_order)
        regs[_IP] = address
        for number in (*_ARCH.callee_saved, _SP):
            word = Word()
            if self._lib.dwfl_frame_reg(state, number, c.byref(word)) == 0:
                regs[number] = word.value
        return tuple(regs)


def _bare(address: int) -> int:
    """A return address without its signature: arm64's pointer authentication."""
    bits = _ARCH.address_bits
    return address if bits is None else address & (1 << bits) - 1


def _nothing(*_: object) -> None:
    """No file can be had."""
