"""See which files our commands change, and whether they open what they must not: by fanotify."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

_NONBLOCK, _CLOEXEC = 2, 1
_ADD, _FILESYSTEM = 1, 0x100
_MODIFY, _OPEN = 0x2, 0x20
_EVENT = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata


class FileEvents:
    """`kept`: files that must not be opened; `allowed`: folders that may be written to."""

    def __init__(self, kept: Iterable[Path], allowed: Iterable[Path]) -> None:
        self._kept = {str(path) for path in kept}
        self._allowed = [*allowed]
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.fanotify_init(_NONBLOCK | _CLOEXEC, os.O_RDONLY | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "fanotify_init")
        marks: list[tuple[int, int, str]] = [(_ADD, _OPEN, path) for path in self._kept]
        devices = {Path(path).stat().st_dev: path for path in ("/dev/shm", "/root", "/tmp", "/")}
        marks += [(_ADD | _FILESYSTEM, _MODIFY, path) for path in devices.values()]
        for flags, mask, path in marks:
            if libc.fanotify_mark(self._fd, flags, ctypes.c_uint64(mask), -100, path.encode()):
                raise OSError(ctypes.get_errno(), f"fanotify_mark {path}")

    def problems(self, ours: Callable[[int], bool]) -> list[str]:
        """What our processes did since the last call. `ours`: by pid."""
        found: set[str] = set()
        while True:
            try:
                events = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return sorted(found)
            for at in range(0, len(events), _EVENT.size):
                _, _, _, _, mask, fd, pid = _EVENT.unpack_from(events, at)
                if fd < 0:
                    continue
                path = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - not a path
                os.close(fd)
                if not ours(pid):
                    continue
                if mask & _OPEN and path in self._kept:
                    found.add(f"{path} was opened by a command")
                elif mask & _MODIFY and not any(
                    Path(path).is_relative_to(folder) for folder in self._allowed
                ):
                    found.add(f"{path} was changed by a command")

    def close(self) -> None:
        os.close(self._fd)
