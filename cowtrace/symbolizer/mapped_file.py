"""Name the functions of one mapped ELF file. Its content is hostile: libdw reads it."""

from __future__ import annotations

import ctypes as c
import os
import struct
from collections.abc import Callable
from contextlib import suppress

from cowtrace.symbolizer import libdw
from cowtrace.symbolizer.demangle import demangled
from cowtrace.symbolizer.elf_segments import HEADER, PT_LOAD, segments, virtual_address
from cowtrace.symbolizer.memory_limit import MemoryLimit

_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_OF_SYMBOLS = (2, 3, 11)  # SHT_SYMTAB, SHT_STRTAB, SHT_DYNSYM
_MOST_NAMES = 1 << 16
_NAME_CHARACTERS = 1000

# Opens the debug file of a build ID, which is in hexadecimal; None: there is none.
DebugFile = Callable[[str], int | None]


class MappedFile:
    """An open ELF file. Owns `fd`. Raises ValueError when it is none, OSError when unreadable."""

    def __init__(self, fd: int, debug_file: DebugFile, memory: MemoryLimit) -> None:
        self._fd = fd
        self._debug_file = debug_file
        self._memory = memory
        self._names: dict[int, str] = {}
        self._left_out_bytes = 0  # of symbols, for want of room
        self._dwfl: int | None = None
        self._module: int | None = None
        try:
            self._loaded = [each for each in segments(fd) if each.type == PT_LOAD]
        except BaseException:
            os.close(fd)
            raise
        self._callbacks = libdw.callbacks(libdw.FindDebugFile(self._find_debug_file))

    def virtual_address(self, offset: int) -> int | None:
        """Where the file wants the byte at that offset to be loaded; None: nowhere."""
        return virtual_address(self._loaded, offset)

    def name(self, offset: int) -> str:
        """The function whose code is at that offset of the file (hostile); empty: unknown."""
        if self._left_out_bytes and self._memory.has_room(self._left_out_bytes):
            self._end_libdw()
            self._names.clear()
        if offset not in self._names:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[offset] = self._find_name(offset)
        found = self._names[offset]
        if self._left_out_bytes and not found:
            self._memory.too_large += 1
        return found

    def report_to(self, dwfl: int, bias: int) -> None:
        """Add the file to libdw's view of a process, which maps it."""
        self._memory.map_file(self._fd)
        # libdw closes the descriptor that it is given, unless it refuses the file.
        fd = os.dup(self._fd)
        if not libdw.libdw().dwfl_report_elf(dwfl, b"", b"", fd, bias, True):
            os.close(fd)

    def close(self) -> None:
        """Idempotent."""
        self._end_libdw()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _end_libdw(self) -> None:
        self._left_out_bytes = 0
        dwfl, self._dwfl, self._module = self._dwfl, None, None
        if dwfl:
            libdw.libdw().dwfl_end(dwfl)

    def _find_name(self, offset: int) -> str:
        address = self.virtual_address(offset)
        if address is None:
            return ""
        lib = libdw.libdw()
        if self._dwfl is None:
            if not self._fits(self._fd):
                return ""
            self._dwfl = lib.dwfl_begin(c.byref(self._callbacks))
            lib.dwfl_report_begin(self._dwfl)
            self.report_to(self._dwfl, 0)
            lib.dwfl_report_end(self._dwfl, None, None)
        self._module = lib.dwfl_addrmodule(self._dwfl, address)
        if not self._module:
            return ""
        name: bytes | None = lib.dwfl_module_addrname(self._module, address)
        if not name:
            return ""
        plain = name.partition(b"@")[0]  # libdw adds the version: name@@GLIBC_2.34
        return demangled(plain).decode(errors="backslashreplace")[:_NAME_CHARACTERS]

    def _find_debug_file(self, module: int, *_: object) -> int:
        """Only by build ID: a debug link is a path that the file chose."""
        found, where = c.POINTER(c.c_ubyte)(), libdw.Word()
        length = libdw.libdw().dwfl_module_build_id(module, c.byref(found), c.byref(where))
        if length < 2:
            return -1
        fd = self._debug_file(bytes(found[: min(length, 64)]).hex())
        if fd is None:
            return -1
        if not self._fits(fd):
            os.close(fd)
            return -1
        self._memory.map_file(fd)
        return fd

    def _fits(self, fd: int) -> bool:
        """Whether there is room for the symbols of that file."""
        found = _symbol_bytes(fd)
        if self._memory.has_room(found):
            return True
        self._left_out_bytes = found
        return False


def _symbol_bytes(fd: int) -> int:
    """Of its symbol tables and their names, as its section headers say."""
    head = os.pread(fd, HEADER.size, 0)
    if len(head) < HEADER.size:
        return 0
    fields = HEADER.unpack(head)
    with suppress(OverflowError):
        table = os.pread(fd, _SECTION.size * fields[12], fields[6])
        found = _SECTION.iter_unpack(table[: len(table) // _SECTION.size * _SECTION.size])
        return min(sum(int(s[5]) for s in found if s[1] in _OF_SYMBOLS), os.fstat(fd).st_size)
    return 0
