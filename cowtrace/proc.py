"""Read /proc: names, ancestry, memory, cgroups and container PIDs of processes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.model import UNKNOWN_PLACE, Place, Process, Snapshot

_PROC = Path("/proc")


def exists(pid: int) -> bool:
    """Whether a process has this PID now."""
    return (_PROC / str(pid)).exists()


def runs(pid: int) -> bool:
    """Whether it has not ended: a zombie exists, but has."""
    try:
        status = (_PROC / str(pid) / "status").read_bytes()
    except OSError:
        return False
    return b"\nState:\tZ" not in status


def comm(pid: int) -> str:
    """The name of a process (hostile: see text).

    Raises CowtraceError when there is no process of that PID, when /proc hides it, or when it is a
    thread of another one.
    """
    status, found = b"", name(pid)
    with suppress(OSError):
        status = (_PROC / str(pid) / "status").read_bytes()
    if (found is None or not status) and _is_another_users(pid):
        raise CowtraceError(
            f"process {pid} is another user's, and /proc hides these: it is mounted with hidepid",
            hint="run it again with sudo",
        )
    if found is None or not status:
        raise CowtraceError(f"no process has the PID {pid}", hint="list the processes: ps -e")
    leader = int(status.partition(b"\nTgid:")[2].split(None, 1)[0])
    if leader != pid:
        raise CowtraceError(
            f"{pid} is a thread of process {leader}",
            hint=f"name the process: -p {leader}",
        )
    return found


def _is_another_users(pid: int) -> bool:
    """Whether such a process exists, and this user may not even send it a signal."""
    try:
        os.kill(pid, 0)  # sends none: it asks
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def name(pid: int) -> str | None:
    """The name of a process (hostile: see text); None when it has ended."""
    try:
        raw = (_PROC / str(pid) / "comm").read_bytes()
    except OSError:
        return None
    return raw.removesuffix(b"\n").decode(errors="backslashreplace")


def started(pid: int) -> int | None:
    """When a process started, in ticks since boot; None: it has ended."""
    try:
        return int(stat(pid)[19])
    except OSError:
        return None


def parent(pid: int) -> int | None:
    """The parent of a process, now; None: it has ended."""
    try:
        return int(stat(pid)[1])
    except OSError:
        return None


def stat(pid: int, proc: Path = _PROC) -> list[bytes]:
    """The fields of its /proc/PID/stat, from the third one on. Raises OSError."""
    # The name is in parentheses and can hold any byte: fields count from the last one.
    return (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()


def pids() -> set[int]:
    """The PIDs of all processes."""
    return {int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()}


def has_memory(pid: int, proc: Path = _PROC) -> bool:
    """Whether the process lives and is no zombie: its files and its layout can be read."""
    try:
        return not (proc / str(pid) / "statm").read_bytes().startswith(b"0 ")
    except OSError:
        return False


def available_bytes() -> int | None:
    """MemAvailable of the system, in bytes; None: unknown."""
    try:
        meminfo = (_PROC / "meminfo").read_bytes()
    except OSError:
        return None
    found = re.search(rb"^MemAvailable: +(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def descendants(roots: Iterable[int]) -> set[int]:
    """Pids of the children of `roots`, their children and so on, now."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            pid = int(entry.name)
            if (of := parent(pid)) is not None:
                children.setdefault(of, []).append(pid)
    found: set[int] = set()
    rest = list(roots)
    while rest:
        new = set(children.get(rest.pop(), ())) - found
        found |= new
        rest += new
    return found


_MOST_ANCESTORS = 16  # whose cgroup is read in place of an ended process's
_SLACK = 1000  # places of processes that left the snapshot, before they are dropped


def read_place(pid: int, proc: Path = _PROC) -> Place | None:
    """Where a process runs; None: it has ended."""
    try:
        status = (proc / str(pid) / "status").read_bytes()
        groups = (proc / str(pid) / "cgroup").read_bytes()
    except OSError:
        return None
    return Place(nspid(status), _cgroup(groups.decode(errors="backslashreplace")))


class Places:
    """Caches the places of processes; reads one again when the process has changed."""

    def __init__(self, read: Callable[[int], Place | None] = read_place) -> None:
        self._read = read
        self._places: dict[tuple[int, int | None], tuple[int, Place]] = {}  # Process.changed_in
        self._now: Snapshot | None = None
        self._by_pid: Mapping[int, Process] | None = None  # of _now, by pid

    def look(self, now: Snapshot) -> None:
        """Set the snapshot whose processes follow."""
        self._now, self._by_pid = now, None
        if len(self._places) > 2 * len(now.processes) + _SLACK:
            current = {process.identity for process in now.processes}
            self._places = {key: self._places[key] for key in self._places.keys() & current}

    def of(self, process: Process) -> Place:
        """Where it runs. If it ended before it was read: the cgroup of its nearest ancestor.

        A child starts in its parent's cgroup, and mostly stays there.
        """
        return self._of(process, _MOST_ANCESTORS)

    def of_pids(self, now: Snapshot, pids: Iterable[int | None]) -> dict[int, Place]:
        """By pid, of the newest process of each pid that the snapshot has."""
        wanted = set(pids)
        return {p.pid: self.of(p) for p in now.processes if p.pid in wanted}

    def _of(self, process: Process, ancestors: int) -> Place:
        # The start of a process created before attach is set at its first fault.
        cached = self._places.get(process.identity) or self._places.get((process.pid, None))
        if cached and cached[0] == process.changed_in:
            return cached[1]
        place = None if process.exited else self._read(process.pid)
        if place is None and cached:
            place = cached[1]
        if place is None:
            place = Place(None, self._inherited(process.parent, ancestors))
        self._places[process.identity] = process.changed_in, place
        return place

    def _inherited(self, parent: int | None, ancestors: int) -> str | None:
        if parent is None or not ancestors:
            return None
        if self._by_pid is None:
            self._by_pid = {p.pid: p for p in self._now.processes} if self._now else {}
        if parent in self._by_pid:
            return self._of(self._by_pid[parent], ancestors - 1).cgroup
        return (self._read(parent) or UNKNOWN_PLACE).cgroup


def nspid(status: bytes) -> int | None:
    """NSpid of /proc/PID/status, which lists the pid in each PID namespace: the innermost."""
    listing = status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    return int(listing[-1]) if listing and listing[-1].isdigit() else None


def _cgroup(listing: str) -> str | None:
    """/proc/PID/cgroup: the path in the v2 tree, or v1's memory tree if v2's is only the root."""
    paths = {}
    for line in listing.split("\n"):
        _, _, named = line.partition(":")
        controllers, colon, path = named.partition(":")
        if colon:
            paths.update(dict.fromkeys(controllers.split(","), path))
    unified = paths.get("")
    return unified if unified not in (None, "/") else paths.get("memory", unified)
