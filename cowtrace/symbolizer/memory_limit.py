"""Bound the memory of the symbolizer: its heap, beside the files that libdw maps."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable


class MemoryLimit:
    """`set_data_bytes` sets the kernel's limit of data, to which private mappings count."""

    def __init__(self, set_data_bytes: Callable[[int], None]) -> None:
        self.mapped_bytes = 0  # of files, since all were closed
        self.too_large = 0  # addresses of this request without a name, for want of room
        self._set_data_bytes = set_data_bytes
        self._heap_bytes = 0
        self._symbol_bytes = 0

    def start_request(self, heap_bytes: int, symbol_bytes: int) -> None:
        """How much the heap may take, and the symbols of one file: libdw reads all to find one."""
        self._heap_bytes, self._symbol_bytes = heap_bytes, symbol_bytes
        self.too_large = 0
        self._set_limit()

    def has_room(self, symbol_bytes: int) -> bool:
        """Whether libdw may read that many bytes of symbols."""
        return symbol_bytes <= self._symbol_bytes

    def map_file(self, fd: int) -> None:
        """libdw will map that file."""
        self.mapped_bytes += os.fstat(fd).st_size
        self._set_limit()

    def files_closed(self) -> None:
        """libdw maps none any more."""
        self.mapped_bytes = 0
        self._set_limit()

    def _set_limit(self) -> None:
        # Below 0 where more pages of files are resident than the heap may take.
        self._set_data_bytes(max(0, self._heap_bytes + self.mapped_bytes))


def set_data_bytes(wanted: int) -> None:
    """Limit the data of this process, at most to its hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
