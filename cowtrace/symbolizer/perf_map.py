"""Read perf maps: files in which a runtime names the code that it generated (/tmp/perf-PID.map)."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from contextlib import suppress

from cowtrace.symbolizer.messages import Identity
from cowtrace.symbolizer.traced_process import Open

_MOST_BYTES = 32 << 20  # read of one file
_CHUNK = 1 << 20
_MOST_MAPS = 64


class PerfMaps:
    """The perf maps of processes."""

    def __init__(self) -> None:
        self._maps: OrderedDict[Identity, tuple[int, PerfMap | None]] = OrderedDict()

    def name(self, address: int, process: Identity, index: int, round_: int, open_: Open) -> str:
        """The name that its runtime gave an address (hostile); empty: none.

        `index`: the process's place in the request. Its file is asked for once a round: another
        may have taken its place.
        """
        asked, found = self._maps.pop(process, (None, None))
        if asked != round_:
            fd = open_("perf-map", index)
            if fd is not None:
                found = self._newer(fd, found)
        self._maps[process] = round_, found
        if len(self._maps) > _MOST_MAPS:
            _close(self._maps.popitem(last=False)[1][1])
        return found.name(address) if found else ""

    def close(self) -> None:
        """Close them all."""
        while self._maps:
            _close(self._maps.popitem()[1][1])

    @staticmethod
    def _newer(fd: int, known: PerfMap | None) -> PerfMap | None:
        found = PerfMap(fd)
        if known and known.identity == found.identity:
            found.close()
            return known
        _close(known)
        return found


class PerfMap:
    """One open perf map, whose end is read again when it has grown. Owns `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read = 0  # bytes
        self._rest = b""  # of a line that was not whole
        # Lines in the file's order: a later one takes the place of an earlier one.
        self._starts, self._ends, self._names_at = array("Q"), array("Q"), array("I")
        self._names = bytearray()
        self._sorted: list[int] | None = None  # line numbers, by start; None: to be sorted anew
        status = os.fstat(fd)
        self.identity = status.st_dev, status.st_ino

    def name(self, address: int) -> str:
        """The name of an address (hostile); empty: no line has it."""
        self._read_on()
        if self._sorted is None:
            self._sorted = sorted(range(len(self._starts)), key=self._starts.__getitem__)
        at = bisect_right(self._sorted, address, key=self._starts.__getitem__) - 1
        if at < 0 or address >= self._ends[line := self._sorted[at]]:
            return ""
        start = self._names_at[line]
        return self._names[start : self._names.index(b"\n", start)].decode(
            errors="backslashreplace"
        )

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _read_on(self) -> None:
        size = min(os.fstat(self._fd).st_size, _MOST_BYTES)
        while self._read < size:
            text = os.pread(self._fd, min(_CHUNK, size - self._read), self._read)
            if not text:
                return
            self._read += len(text)
            lines = (self._rest + text).split(b"\n")
            self._rest = lines.pop()[:_CHUNK]
            for line in lines:
                self._add(line)

    def _add(self, line: bytes) -> None:
        """START SIZE NAME, in hexadecimal."""
        start, _, rest = line.partition(b" ")
        length, _, name = rest.partition(b" ")
        with suppress(ValueError):
            at = int(start, 16)
            end = at + int(length, 16)
            if not 0 <= at < end < 1 << 64:
                return
            self._starts.append(at)
            self._ends.append(end)
            self._names_at.append(len(self._names))
            self._names += name[:1000] + b"\n"
            self._sorted = None


def _close(perf_map: PerfMap | None) -> None:
    if perf_map:
        perf_map.close()
