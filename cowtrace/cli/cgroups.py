"""Find the folder of a named cgroup in the mounted cgroup v2 tree."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.text import printable

_OCTAL = re.compile(r"\\(040|011|012|134)")  # what mangle_path() in fs/seq_file.c escapes


def folder(name: str, mounts: Path = Path("/proc/self/mountinfo")) -> Path:
    """Find the folder of a cgroup.

    `name` is an absolute path, or one below the mount, as `cat /proc/PID/cgroup` shows it.

    Raises CowtraceError: cgroup v2 is not mounted, or it holds no such group.
    """
    roots = _roots(mounts.read_text(errors="surrogateescape"))
    if not roots:
        raise CowtraceError(
            "no cgroup v2 tree is mounted here",
            hint="mount one: mount -t cgroup2 none /sys/fs/cgroup; or filter with -p --follow",
        )
    for root in roots:
        for path in (Path(name), root / name.lstrip("/")):
            if path.is_dir() and path.resolve().is_relative_to(root):
                return path.resolve()
    if Path(name).is_dir():
        problem = f"{printable(name)} is no cgroup v2 folder"
    else:
        problem = f"no cgroup {printable(name)} in {printable(str(roots[0]))}"
    raise CowtraceError(
        problem, hint="see the one that a process is in: cat /proc/PID/cgroup, its line 0::"
    )


def processes(group: Path) -> set[int]:
    """The PIDs that are in the cgroup and below it now."""
    found: set[int] = set()
    for folder, _, _ in os.walk(group):
        with suppress(OSError):  # removed meanwhile; a threaded group has none
            found |= {int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()}
    return found


def _roots(mountinfo: str) -> list[Path]:
    """Where cgroup2 is mounted: proc_pid_mountinfo(5)."""
    found = []
    for line in mountinfo.split("\n"):
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if after.split(" ")[0] == "cgroup2" and len(fields) > 4:
            found.append(Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4])))
    return found
