"""Pids that a user names -> what /proc knows of them."""

from __future__ import annotations

import re
from pathlib import Path

from cowtrace.errors import CowtraceError

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
