"""Read perf maps: /tmp/perf-PID.map, in which a runtime names the code that it generated.

Anyone can write a file there, so it is read only if it belongs to the process's own user.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cowtrace.proc import nspid

_MOST_BYTES = 64 << 20  # read of one file


@dataclass(frozen=True, slots=True)
class _Map:
    bytes: int  # size of the file when it was read
    starts: tuple[int, ...]  # ascending
    entries: tuple[tuple[int, str], ...]  # end and name of each


_NONE = _Map(-1, (), ())


class PerfMaps:
    """Reads the map of a process at the first look-up, and again when its size has changed."""

    def __init__(self, folder: Path = Path("/tmp")) -> None:
        self._folder = folder
        self._maps: dict[int, _Map] = {}
        self._uids: dict[int, int] = {}  # of processes that were seen alive

    def name(self, pid: int, address: int) -> str | None:
        """The name of an address (hostile); None: no entry, or no map that can be trusted."""
        found = self._lookup(self._maps.get(pid, _NONE), address)
        if found is None:
            self._read(pid)
            found = self._lookup(self._maps.get(pid, _NONE), address)
        return found

    @staticmethod
    def _lookup(perf_map: _Map, address: int) -> str | None:
        at = bisect_right(perf_map.starts, address) - 1
        if at < 0:
            return None
        end, name = perf_map.entries[at]
        return name if address < end else None

    def _read(self, pid: int) -> None:
        with suppress(OSError):
            self._uids[pid] = Path("/proc", str(pid)).stat().st_uid
        for path in self._paths(pid):
            with suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                with os.fdopen(fd, "rb") as file:
                    status = os.fstat(fd)
                    trusted = status.st_uid in (0, self._uids.get(pid))
                    if not trusted or not stat.S_ISREG(status.st_mode):
                        continue
                    if status.st_size != self._maps.get(pid, _NONE).bytes:
                        self._maps[pid] = _parse(status.st_size, file.read(_MOST_BYTES))
                    return

    def _paths(self, pid: int) -> list[Path]:
        """By the container PID in its own /tmp, and by the host PID."""
        paths = [self._folder / f"perf-{pid}.map"]
        with suppress(OSError):
            inside = nspid(Path("/proc", str(pid), "status").read_bytes())
            paths.insert(0, Path("/proc", str(pid), "root/tmp", f"perf-{inside}.map"))
        return paths


def _parse(size: int, text: bytes) -> _Map:
    """Lines of START SIZE NAME, in hexadecimal; a later line takes the place of an earlier one."""
    found: dict[int, tuple[int, str]] = {}
    for line in text.splitlines():
        start, _, rest = line.partition(b" ")
        length, _, name = rest.partition(b" ")
        with suppress(ValueError):
            at = int(start, 16)
            found[at] = (at + int(length, 16), name.decode(errors="backslashreplace"))
    starts = tuple(sorted(found))
    return _Map(size, starts, tuple(found[start] for start in starts))
