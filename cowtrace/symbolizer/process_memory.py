"""Read the memory of a traced process, of pages that are present alone.

Reading another page would make it present: a later first touch would then replace the zero page,
and count as such. A page of a file or of swap would be read in; a file system may never answer.
"""

from __future__ import annotations

import os

from cowtrace.symbolizer.traced_process import Open

_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_ENTRY_BYTES = 8  # of /proc/PID/pagemap
_PRESENT = 1 << 63


class ProcessMemory:
    """/proc/PID/mem and /proc/PID/pagemap of one process, open as long as it is asked about."""

    def __init__(self, open_: Open) -> None:
        """`open_`: asks the tracer for both."""
        self._files: list[int] = []
        for kind in ("memory", "pagemap"):
            if (fd := open_(kind)) is not None:
                self._files.append(fd)
        self._present: dict[int, bool] = {}

    def is_alive(self) -> bool:
        """False: it has ended, or executed another program. Call it first in each request."""
        self._present.clear()
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
            entry = b""
            if len(self._files) == 2:
                entry = os.pread(self._files[1], _ENTRY_BYTES, page * _ENTRY_BYTES)
            self._present[page] = bool(int.from_bytes(entry, "little") & _PRESENT)
        return self._present[page]
