"""Write an output file atomically, readable by its owner only, following no foreign links."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from cowtrace.errors import CowtraceError
from cowtrace.text import printable

PROC = Path("/proc")
_MOST_LINKS = 40  # as the kernel's MAXSYMLINKS


def without_links(path: Path) -> Path:
    """Resolve the links of a path; each must belong to this user or to root.

    Links in /proc are kept: their targets may have no path.
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
    """None: nothing is there, so a file may be created."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def private_file(name: str) -> Iterator[TextIO]:
    """Write beside the file, with mode 0600, and rename it into place if no error occurred.

    A link of this user or of root is followed; a terminal, a pipe or an open descriptor
    (/dev/stdout) is written to as it is.
    Raises CowtraceError when it cannot be written, or a link of another user is on the way.
    """
    try:
        path = without_links(Path(name))
        if _is_descriptor(path) or (path.exists() and not path.is_file()):
            with path.open("w", encoding="utf-8", errors="backslashreplace") as stream:
                yield stream
            return
        fd, staged = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        try:
            with open(fd, "w", encoding="utf-8", errors="backslashreplace") as stream:  # noqa: PTH123
                yield stream
            Path(staged).replace(path)
        finally:
            with suppress(FileNotFoundError):
                Path(staged).unlink()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CowtraceError(
            f"cannot write {printable(name)}: {error.strerror}",
            hint="name a file in a folder that you may write to, with room: -o FILE",
        ) from None


def _is_descriptor(path: Path) -> bool:
    """True for a descriptor that is already open, such as /dev/stdout; it may be a file."""
    return path.is_relative_to(PROC) and path.parent.name == "fd"
