"""Look up addresses of one traced process in its mapped files."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable

from cowtrace.symbolizer.mapped_file import DebugFile, MappedFile
from cowtrace.symbolizer.memory_limit import MemoryLimit
from cowtrace.symbolizer.memory_map import VDSO, Mapping, MemoryMap

_MOST_FILES = 256

# Asks the tracer for a file: its kind, and what identifies it; None: it cannot be had.
Open = Callable[..., int | None]


class Files:
    """Mapped files by their identity, shared by the processes that map them."""

    def __init__(self, debug_file: DebugFile, vdso: MappedFile | None, memory: MemoryLimit) -> None:
        self._debug_file = debug_file
        self._memory = memory
        self.vdso = vdso
        self._files: OrderedDict[tuple[int, ...], MappedFile] = OrderedDict()

    def add(self, fd: int) -> tuple[int, ...] | None:
        """Keep an open file; its key. Takes `fd`. None: it has no names."""
        status = os.fstat(fd)
        key = (
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )  # fmt: skip
        if key in self._files:
            os.close(fd)
        else:
            try:
                self._files[key] = MappedFile(fd, self._debug_file, self._memory)
            except (ValueError, OSError):
                return None
            if len(self._files) > _MOST_FILES:
                self._files.popitem(last=False)[1].close()
        return key

    def get(self, key: tuple[int, ...]) -> MappedFile | None:
        """A file that was added, unless it was closed since."""
        if key in self._files:
            self._files.move_to_end(key)
        return self._files.get(key)

    def close(self) -> None:
        """Close all but the vDSO."""
        while self._files:
            self._files.popitem()[1].close()


class TracedProcess:
    """What is known of one process; stays usable when it has ended."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._text = b""
        self._map = MemoryMap(b"")
        self._keys: dict[Mapping, tuple[int, ...] | None] = {}
        self.round: int | None = None  # in which the mappings were read

    def update(self, text: bytes, round_: int) -> bool:
        """Take /proc/PID/maps as read in that round. True: the mappings have changed."""
        self.round = round_
        if not text or text == self._text:  # empty: it has ended
            return False
        self._text, self._map = text, MemoryMap(text)
        self._keys.clear()
        return True

    @property
    def text(self) -> bytes:
        """/proc/PID/maps as last read."""
        return self._text

    @property
    def mappings(self) -> tuple[Mapping, ...]:
        """Its executable mappings, by address."""
        return self._map.mappings

    def mapping(self, address: int) -> Mapping | None:
        """The executable mapping of an address."""
        return self._map.at(address)

    def file(self, mapping: Mapping, open_: Open) -> MappedFile | None:
        """The file of a mapping; None: there is none, or it cannot be read."""
        if mapping.path == VDSO:
            return self._files.vdso
        if not mapping.path.startswith("/"):
            return None
        key = self._keys.get(mapping)
        found = self._files.get(key) if key else None
        if found or (mapping in self._keys and key is None):
            return found
        fd = open_("file", mapping.start, mapping.end, mapping.path, *mapping.file)
        self._keys[mapping] = key = None if fd is None else self._files.add(fd)
        return self._files.get(key) if key else None

    def name(self, address: int, open_: Open) -> tuple[str, str]:
        """(function, file) of an address, by the files; empty: unknown."""
        mapping = self.mapping(address)
        if mapping is None or not mapping.name:
            return "", ""
        file = self.file(mapping, open_)
        return file.name(address - mapping.start + mapping.offset) if file else "", mapping.name
