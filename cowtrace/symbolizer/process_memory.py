"""Read the memory of a traced process: pages that are present, and constants of its programs.

Reading another page would make it present: a later first touch would then replace the zero page,
and count as such; the first write to a page of a file would count as another kind; a page would be
read in from swap. Constants are never written: pages of programs and libraries, mapped read-only.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right

from cowtrace.symbolizer.traced_process import Open

_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_ENTRY_BYTES = 8  # of /proc/PID/pagemap
_PRESENT = 1 << 63
# Start, end, rights, device and inode of a line of /proc/PID/maps of a private file.
_LINE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) (...)p [0-9a-f]+ (\S+ [1-9]\d*) ", re.MULTILINE)


class ProcessMemory:
    """/proc/PID/mem and /proc/PID/pagemap of one process, open as long as it is asked about."""

    def __init__(self, open_: Open) -> None:
        """`open_`: asks the tracer for both."""
        self._files: list[int] = []
        for kind in ("memory", "pagemap"):
            if (fd := open_(kind)) is not None:
                self._files.append(fd)
        self._present: dict[int, bool] = {}
        self._maps = b""
        self._constants: list[tuple[int, int]] = []  # from the first to the last byte, sorted

    def is_alive(self, maps: bytes | None = None) -> bool:
        """False: it has ended, or executed another program. Call it first in each request.

        `maps`: its /proc/PID/maps; None: as before.
        """
        self._present.clear()
        if maps is not None and maps != self._maps:
            self._maps, self._constants = maps, _constants(maps)
        if len(self._files) < 2:
            return False
        try:
            return len(os.pread(self._files[1], _ENTRY_BYTES, 0)) == _ENTRY_BYTES
        except OSError:
            return False

    def read(self, address: int, size: int) -> bytes:
        """From there on to the first page that is not present, at most `size` bytes."""
        end = address
        while end < address + size and self._is_present(end // _PAGE_BYTES):
            end = (end // _PAGE_BYTES + 1) * _PAGE_BYTES
        size = min(end, address + size) - address
        return os.pread(self._files[0], size, address) if size > 0 else b""

    def close(self) -> None:
        """Idempotent."""
        while self._files:
            os.close(self._files.pop())

    def _is_present(self, page: int) -> bool:
        if page not in self._present:
            if self._is_constant(page * _PAGE_BYTES):
                self._present[page] = True
                return True
            entry = b""
            if len(self._files) == 2:
                entry = os.pread(self._files[1], _ENTRY_BYTES, page * _ENTRY_BYTES)
            self._present[page] = bool(int.from_bytes(entry, "little") & _PRESENT)
        return self._present[page]

    def _is_constant(self, address: int) -> bool:
        at = bisect_right(self._constants, (address, 1 << 64)) - 1
        return at >= 0 and address <= self._constants[at][1]


def _constants(maps: bytes) -> list[tuple[int, int]]:
    """Mappings that nobody can write, of files that are also mapped as code."""
    lines = _LINE.findall(maps)
    programs = {file for _, _, rights, file in lines if rights.endswith(b"x")}
    return sorted(
        (int(start, 16), int(end, 16) - 1)
        for start, end, rights, file in lines
        if rights in (b"r--", b"r-x") and file in programs
    )
