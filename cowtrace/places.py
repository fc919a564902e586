"""Processes -> where they run, as /proc says: in which cgroup, and their pid in a container."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cowtrace.model import NOWHERE, Place, Process, Snapshot

_PROC = Path("/proc")
_ANCESTORS = 16  # asked for their cgroup
_SLACK = 1000  # places kept of processes that a snapshot has no more, before they are dropped


def read(pid: int, proc: Path = _PROC) -> Place | None:
    """Of a process that lives; None: it has ended."""
    try:
        status = (proc / str(pid) / "status").read_bytes()
        groups = (proc / str(pid) / "cgroup").read_bytes()
    except OSError:
        return None
    return Place(nspid(status), _cgroup(groups.decode(errors="backslashreplace")))


class Places:
    """Remembers the places of processes; asks again when one that lives has changed."""

    def __init__(self, read: Callable[[int], Place | None] = read) -> None:
        self._read = read
        self._known: dict[tuple[int, int | None], tuple[Process, Place]] = {}
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
        if known and known[0] is process:
            return known[1]
        place = None if process.exited else self._read(process.pid)
        if place is None and known:
            place = known[1]
        if place is None:
            place = Place(None, self._inherited(process.parent, ancestors))
        self._known[process.identity] = process, place
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
