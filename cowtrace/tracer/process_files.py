"""Open files of traced processes for the symbolizer. Neither a name nor a file is trusted.

Only regular files are opened, without following links, except those of the kernel in /proc.
A file system of a traced process can block a process that looks at it: such a look is given up
after a second.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from cowtrace.proc import nspid
from cowtrace.proc import stat as stat_fields
from cowtrace.symbolizer.messages import Identity

_SECONDS = 1.0  # to open a file
_MOST_STUCK = 8  # threads that wait for a file system; then none is asked any more
_PATH = os.O_PATH | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_TMP = "/tmp"
_NAMES = {"memory": "mem", "pagemap": "pagemap"}  # in /proc/PID
_START = 19  # of the fields of /proc/PID/stat from the third one on
_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_DEBUG_FILES = "/usr/lib/debug/.build-id"
T = TypeVar("T")


class _Worker:
    """A thread that makes one call after the other."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], object], SimpleQueue[object]] | None]
        self._calls = SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def put(self, call: Callable[[], object]) -> SimpleQueue[object]:
        """Where its result will be; None if it raises an error."""
        answer: SimpleQueue[object] = SimpleQueue()
        self._calls.put((call, answer))
        return answer

    def leave(self) -> None:
        """End it when its call returns."""
        self._calls.put(None)

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # for the main thread
        while asked := self._calls.get():
            call, answer = asked
            found = None
            # Not OSError alone: the symbolizer chose the arguments.
            with suppress(Exception):
                found = call()
            answer.put(found)


_worker: _Worker | None = None
_stuck: list[threading.Thread] = []


def in_time(call: Callable[[], T]) -> T | None:
    """What a call returns; None: it raises an error, or takes too long.

    It is made in another thread, which is left behind when it does not return in time.
    """
    global _worker
    _stuck[:] = [thread for thread in _stuck if thread.is_alive()]
    if len(_stuck) >= _MOST_STUCK:
        return None
    _worker = _worker or _Worker()
    answer = _worker.put(call)
    try:
        return answer.get(timeout=_SECONDS)  # type: ignore[return-value]
    except Empty:
        _stuck.append(_worker.thread)
        _worker.leave()
        _worker = None
        return None


def maps(pid: int) -> int:
    """/proc/PID/maps, open. Raises OSError."""
    return os.open(f"/proc/{pid}/maps", _READ)


class RequestedFiles:
    """Opens what the symbolizer asks for while it names a stack of one process."""

    def __init__(
        self,
        family: Sequence[Identity],
        living: int | None,
        user: Callable[[int], int | None],
    ) -> None:
        self._family = family
        self._living = None if living is None else family[living][0]
        self._start_ns = 0 if living is None else family[living][1]
        self._user = user

    def __call__(self, wanted: Sequence[Any]) -> int | None:
        """A descriptor, or None. Raises OSError, and others if the request makes no sense."""
        kind, *which = wanted
        if kind == "perf-map":
            pid = self._family[which[0]][0]
            return perf_map(pid, self._user(pid))
        if kind == "debug-file":
            return debug_file(*which)
        if self._living is None:
            return None
        if kind == "maps":
            return maps(self._living)
        if kind in ("memory", "pagemap"):
            return memory(self._living, self._start_ns, _NAMES[kind])
        return mapped_file(self._living, *which)


def memory(pid: int, start_ns: int, name: str) -> int | None:
    """/proc/PID/mem or /proc/PID/pagemap, open for reading. Raises OSError.

    Reading memory so takes no pin: process_vm_readv() does, and the kernel then unshares pages.
    `start_ns`: of the process, 0 if it is unknown; None: another one has its PID.
    """
    found = os.open(f"/proc/{pid}/{name}", _READ)
    with suppress(OSError):
        if not start_ns or int(stat_fields(pid)[_START]) == start_ns * _TICKS // 10**9:
            return found
    os.close(found)
    return None


def rest() -> None:
    """End the thread until the next call: capabilities are dropped by one thread alone."""
    global _worker
    if _worker:
        _worker.leave()
        _worker.thread.join()
        _worker = None


def mapped_path(pid: int, start: int, end: int) -> bytes:
    """The whole path of the file that is mapped there (hostile). Raises OSError."""
    return os.readlink(b"/proc/%d/map_files/%x-%x" % (pid, start, end))  # noqa: PTH115 - bytes


def mapped_file(pid: int, start: int, end: int, path: str, device: str, inode: int) -> int | None:
    """The file that is mapped there, as the kernel has it. Raises OSError.

    Only root may ask the kernel. Others, who see their own processes only, take the file of that
    path if device and inode are those of the mapping.
    """
    try:
        found = os.open(f"/proc/{pid}/map_files/{start:x}-{end:x}", _PATH)
    except PermissionError:
        if os.geteuid() == 0:
            raise
        found = os.open(path, _PATH | os.O_NOFOLLOW)
        status = os.fstat(found)
        numbers = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", status.st_ino
        if numbers != (device, inode):
            os.close(found)
            return None
    return _regular(found)


def perf_map(pid: int, uid: int | None) -> int | None:
    """The perf map of a process: by the container PID in its own /tmp, else by the host PID.

    Anyone can write a file there, so it is taken only if it belongs to root, or to the process's
    own user.
    """
    with suppress(OSError):
        inside = nspid(Path("/proc", str(pid), "status").read_bytes())
        folder = os.open(f"/proc/{pid}/root", _PATH)
        try:
            below = os.open("tmp", _PATH | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
            path = os.open(f"perf-{inside}.map", _PATH | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)
        found = _regular(path, (0, uid))
        if found is not None:
            return found
    return _regular(os.open(f"{_TMP}/perf-{pid}.map", _PATH | os.O_NOFOLLOW), (0, uid))


def debug_file(build_id: str) -> int | None:
    """The debug file of a program, which its distribution has installed. Raises OSError."""
    name = bytes.fromhex(build_id).hex()  # nothing but digits
    return _regular(os.open(f"{_DEBUG_FILES}/{name[:2]}/{name[2:]}.debug", _PATH))


def owner(pid: int) -> int | None:
    """The user of a process, root if it is protected from its user; None: it has ended."""
    with suppress(OSError):
        return Path("/proc", str(pid)).stat().st_uid
    return None


def _regular(path: int, owners: tuple[int | None, ...] | None = None) -> int | None:
    """Open for reading what was opened as a path, if it is a regular file of one of the owners.

    Takes `path`. Opening another kind of file could have an effect, or never return.
    """
    try:
        status = os.fstat(path)
        if not stat.S_ISREG(status.st_mode) or (owners and status.st_uid not in owners):
            return None
        return os.open(f"/proc/self/fd/{path}", _READ)
    finally:
        os.close(path)
