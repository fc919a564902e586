"""A path to be written to -> the same without links, none of them another user's."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.text import printable

PROC = Path("/proc")
_MOST_LINKS = 40  # as the kernel's MAXSYMLINKS


def without_links(path: Path) -> Path:
    """The absolute path that it leads to, where every link on the way may be followed.

    What the links in /proc lead to has no name: they are left as they are.
    Raises OSError: too many links; CowtraceError: a link of another user.
    """
    here, links = Path.cwd(), 0
    rest = list(reversed(path.parts))
    while rest:
        part = rest.pop()
        if part == "..":
            here = here.parent
            continue
        here /= part  # the root takes its place
        status = _status(here)
        if status is None or not stat.S_ISLNK(status.st_mode) or here.is_relative_to(PROC):
            continue
        if status.st_uid not in (0, os.geteuid()):
            raise CowtraceError(
                f"cannot write {printable(str(path))}: {printable(str(here))} is a link of "
                "another user",
                hint="name a file of your own: -o FILE",
            )
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        rest += reversed(here.readlink().parts)
        here = here.parent
    return here


def _status(path: Path) -> os.stat_result | None:
    """None: nothing is there, which may well be written."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
