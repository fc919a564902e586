"""Parse /proc/PID/maps: which file's bytes are mapped executable at an address."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from dataclasses import dataclass

_MOST_BYTES = 16 << 20  # read of one process
_CHUNK = 1 << 16
# Start, end, offset, device, inode, path, of executable mappings.
_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f:]+) (\d+)[ \t]*(.*)$", re.MULTILINE
)
VDSO = "[vdso]"


@dataclass(frozen=True, slots=True)
class Mapping:
    """One executable mapping."""

    start: int
    end: int
    offset: int  # in the file
    file: tuple[str, int]  # device and inode, as the kernel prints them
    path: str  # hostile; [vdso] and others are no files; empty: no file

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.path.removesuffix(" (deleted)").rpartition("/")[2]


class MemoryMap:
    """The executable mappings of one process, by address."""

    def __init__(self, text: bytes) -> None:
        self._mappings = [
            Mapping(
                int(start, 16),
                int(end, 16),
                int(offset, 16),
                (device.decode(), int(inode)),
                path.decode(errors="backslashreplace"),
            )
            for start, end, offset, device, inode, path in _LINE.findall(text)
        ]
        self._starts = [mapping.start for mapping in self._mappings]

    @property
    def mappings(self) -> tuple[Mapping, ...]:
        """All of them, in the order of their addresses."""
        return tuple(self._mappings)

    def at(self, address: int) -> Mapping | None:
        """The mapping of an address."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._mappings[index].end:
            return None
        return self._mappings[index]

    def named(self, path: str) -> Mapping | None:
        """The first mapping of that path."""
        return next((each for each in self._mappings if each.path == path), None)


def read_maps(fd: int) -> bytes:
    """An open /proc/PID/maps, up to a limit; empty: the process has ended."""
    text = bytearray()
    while len(text) < _MOST_BYTES and (part := os.read(fd, _CHUNK)):
        text += part
    return bytes(text)
