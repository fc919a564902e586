"""Read what /proc says of processes: names, memory, cgroups, and PIDs inside containers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.model import NOWHERE, Place, Process, Snapshot

_PROC = Path("/proc")


def exists(pid: int) -> bool:
    """Whether there is such a process now."""
    return (_PROC / str(pid)).exists()


def runs(pid: int) -> bool:
    """Whether it has not ended: one that nobody has waited for still exists, but has."""
    try:
        status = (_PROC / str(pid) / "status").read_bytes()
    except OSError:
        return False
    return b"\nState:\tZ" not in status


def comm(pid: int) -> str:
    """The name of a process (hostile: see text).

    Raises CowtraceError when there is none, or when it is a thread of another process: faults
    are counted for the whole process.
    """
    try:
        status = (_PROC / str(pid) / "status").read_bytes()
        name = (_PROC / str(pid) / "comm").read_bytes()
    except OSError:
        raise CowtraceError(
            f"no process has the PID {pid}", hint="list the processes: ps -e"
        ) from None
    leader = int(status.partition(b"\nTgid:")[2].split(None, 1)[0])
    if leader != pid:
        raise CowtraceError(
            f"{pid} is a thread of process {leader}, and faults are counted per process",
            hint=f"name the process: -p {leader}",
        )
    return name.removesuffix(b"\n").decode(errors="backslashreplace")


def available_bytes() -> int | None:
    """Memory that the system can still give out before it must swap; None: unknown."""
    try:
        told = (_PROC / "meminfo").read_bytes()
    except OSError:
        return None
    found = re.search(rb"^MemAvailable: +(\d+) kB$", told, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


_ANCESTORS = 16  # asked for their cgroup
_SLACK = 1000  # places kept of processes that a snapshot has no more, before they are dropped


def read_place(pid: int, proc: Path = _PROC) -> Place | None:
    """Of a process that lives; None: it has ended."""
    try:
        status = (proc / str(pid) / "status").read_bytes()
        groups = (proc / str(pid) / "cgroup").read_bytes()
    except OSError:
        return None
    return Place(nspid(status), _cgroup(groups.decode(errors="backslashreplace")))


class Places:
    """Remembers the places of processes; asks again when one that lives has changed."""

    def __init__(self, read: Callable[[int], Place | None] = read_place) -> None:
        self._read = read
        self._known: dict[tuple[int, int | None], tuple[int, Place]] = {}  # Process.changed_in
        self._now: Snapshot | None = None
        self._born: Mapping[int, Process] | None = None  # of _now, by pid

    def look(self, now: Snapshot) -> None:
        """The snapshot whose processes are asked for from here on."""
        self._now, self._born = now, None
        if len(self._known) > 2 * len(now.processes) + _SLACK:
            kept = {process.identity for process in now.processes}
            self._known = {key: self._known[key] for key in self._known.keys() & kept}

    def of(self, process: Process) -> Place:
        """Of one that ended before it was looked at, the cgroup is that of its nearest ancestor.

        A child is born in its parent's, and mostly stays there.
        """
        return self._of(process, _ANCESTORS)

    def of_pids(self, now: Snapshot, pids: Iterable[int | None]) -> dict[int, Place]:
        """Of the newest process of each pid that the snapshot has."""
        wanted = set(pids)
        return {p.pid: self.of(p) for p in now.processes if p.pid in wanted}

    def _of(self, process: Process, ancestors: int) -> Place:
        # One that was born before attach gets its start when it is first looked up.
        known = self._known.get(process.identity) or self._known.get((process.pid, None))
        if known and known[0] == process.changed_in:
            return known[1]
        place = None if process.exited else self._read(process.pid)
        if place is None and known:
            place = known[1]
        if place is None:
            place = Place(None, self._inherited(process.parent, ancestors))
        self._known[process.identity] = process.changed_in, place
        return place

    def _inherited(self, parent: int | None, ancestors: int) -> str | None:
        if parent is None or not ancestors:
            return None
        if self._born is None:
            self._born = {p.pid: p for p in self._now.processes} if self._now else {}
        if parent in self._born:
            return self._of(self._born[parent], ancestors - 1).cgroup
        return (self._read(parent) or NOWHERE).cgroup


def nspid(status: bytes) -> int | None:
    """NSpid of /proc/PID/status: its pid in each PID namespace, the innermost last."""
    listing = status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    return int(listing[-1]) if listing and listing[-1].isdigit() else None


def _cgroup(listing: str) -> str | None:
    """/proc/PID/cgroup: the path in the v2 tree; in v1's memory tree where that tells more."""
    paths = {}
    for line in listing.split("\n"):
        _, _, named = line.partition(":")
        controllers, colon, path = named.partition(":")
        if colon:
            paths.update(dict.fromkeys(controllers.split(","), path))
    unified = paths.get("")
    return unified if unified not in (None, "/") else paths.get("memory", unified)
