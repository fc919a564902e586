"""Write an output file atomically, readable by its owner only, following no foreign links.

A name is resolved once, folder by folder, to the descriptor of a folder, and only that is used
from then on: another user may exchange what the name leads to, and changes nothing by it.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from cowtrace.errors import CowtraceError
from cowtrace.text import printable

PROC = Path("/proc")
_MOST_LINKS = 40  # as the kernel's MAXSYMLINKS
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Located:
    """Where a path leads: a name in an open folder. A file may be there, or be created."""

    folder: int  # descriptor
    name: str
    path: Path  # without links
    file: int | None  # descriptor, O_PATH, of what is there
    others: Path | None  # a folder on the way in which another user can exchange what is there

    def open(self, flags: int, name: str | None = None) -> int:
        """Open the file of this name, or another one in the folder; private if it is created."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name or self.name, flags, 0o600, dir_fd=self.folder)

    def open_special(self) -> int:
        """Open what is there for writing, as a shell does: a terminal, a pipe, /dev/stdout."""
        flags = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC
        if _is_in_proc(self.path):  # a link, to what may have no name
            return os.open(self.name, flags, dir_fd=self.folder)
        return os.open(f"/proc/self/fd/{self.file}", flags)


@contextmanager
def located(path: Path, *, follow: bool = True, make: bool = False) -> Iterator[Located]:
    """Resolve the links of a path; each must belong to this user or to root.

    Links in /proc are kept: their targets may have no path. `follow`: if the last part is a link,
    too; `make`: create missing folders, private, and refuse those that others can change.
    Raises OSError: too many links, no such folder; CowtraceError: a link of another user.
    """
    opened: list[int] = []
    try:
        yield _walk(path, opened, follow=follow, make=make)
    finally:
        for each in opened:
            os.close(each)


def without_links(path: Path) -> Path:
    """Where the path leads now; raises as `located` does."""
    with located(path) as found:
        return found.path


def others_can_change(status: os.stat_result) -> bool:
    """True if a user other than root and this one can exchange this user's files in a folder."""
    if status.st_uid not in (0, os.geteuid()):
        return True
    if status.st_mode & stat.S_ISVTX:  # as /tmp: a file is its owner's to remove
        return False
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return bool(others) and not (others == stat.S_IWGRP and _is_private_group(status))


def own_folder(path: Path, *, make: bool = False) -> Path:
    """The folder without links: only this user and root can exchange what leads to it or is in it.

    `make`: create what is missing, private. Raises OSError, or CowtraceError where others can.
    """
    with located(path / "x", make=make) as inside:
        if inside.others:
            raise _changeable(inside.others)
        return inside.path.parent


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A private folder for a while, at a place where no other user can exchange it."""
    # By `sudo -E`, TMPDIR can be another user's; tempfile.gettempdir() would write to it.
    for place in (os.environ.get("TMPDIR", "/tmp"), "/tmp", "/var/tmp"):
        with suppress(OSError, CowtraceError):
            return tempfile.TemporaryDirectory(prefix="cowtrace-", dir=own_folder(Path(place)))
    raise CowtraceError(
        "there is no folder for temporary files", hint="set TMPDIR to one that only you can change"
    )


@contextmanager
def private_file(name: str, *, at_once: bool = False) -> Iterator[TextIO]:
    """Write beside the file, with mode 0600, and rename it into place if no error occurred.

    at_once: rename it before it is written, for what others read while it grows.
    A link of this user or of root is followed; a terminal, a pipe or an open descriptor
    (/dev/stdout) is written to as it is.
    Raises CowtraceError when it cannot be written, or what is there is another user's.
    """
    try:
        with located(Path(name)) as place:
            status = None if place.file is None else os.fstat(place.file)
            if status and not stat.S_ISREG(status.st_mode):
                if status.st_uid not in (0, os.geteuid()) and not _is_in_proc(place.path):
                    raise _foreign(Path(name), place.path, "is")
                with _text(place.open_special()) as stream:
                    yield stream
                return
            staged = f".{place.name[:50]}.{secrets.token_hex(8)}"
            fd = place.open(os.O_CREAT | os.O_EXCL | os.O_WRONLY, staged)
            place_it = partial(
                os.replace, staged, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder
            )
            try:
                with _text(fd) as stream:
                    if at_once:
                        place_it()
                    yield stream
                if not at_once:
                    place_it()
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(staged, dir_fd=place.folder)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CowtraceError(
            f"cannot write {printable(name)}: {error.strerror}",
            hint="name a file in a folder that you may write to, with room: -o FILE",
        ) from None


def _walk(path: Path, opened: list[int], *, follow: bool, make: bool) -> Located:
    """`opened` receives all descriptors."""

    def enter(name: str, flags: int, folder: int | None = None) -> int:
        opened.append(os.open(name, flags, dir_fd=folder))
        return opened[-1]

    links, here = 0, Path("/")
    rest = [*reversed((Path.cwd() / path).parts)]
    trail: list[tuple[int, Path, Path | None]] = []  # a folder, its path, `Located.others`
    while rest:
        part = rest.pop()
        if part == "..":
            del trail[max(1, len(trail) - 1) :]
            continue
        if part == "/":
            trail, handle, others = [], enter(part, _FOLDER), None
            here = Path(part)
        else:
            folder, here, others = trail[-1]
            here /= part
            try:
                handle = enter(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, folder)
            except FileNotFoundError:
                if not rest:
                    return Located(folder, part, here, None, others)
                if not make:
                    raise
                if others:
                    raise _changeable(others) from None
                with suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=folder)
                handle = enter(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, folder)
            status = os.fstat(handle)
            is_link = stat.S_ISLNK(status.st_mode)
            if is_link and not _is_in_proc(here) and (rest or follow):
                if status.st_uid not in (0, os.geteuid()):
                    raise _foreign(path, here, "is a link")
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                rest += reversed(Path(os.readlink("", dir_fd=handle)).parts)
                continue
            if not rest:
                return Located(folder, part, here, handle, others)
            if is_link:
                handle = enter(part, _FOLDER, folder)
        status = os.fstat(handle)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        trail.append((handle, here, others or (here if others_can_change(status) else None)))
    handle, here, others = trail[-1]
    return Located(handle, ".", here, handle, others)


def _is_in_proc(path: Path) -> bool:
    return path.is_relative_to(PROC)


def _is_private_group(status: os.stat_result) -> bool:
    """True for a group of its owner alone, with which systems take 002 as the umask."""
    with suppress(KeyError):
        owner, group = pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid)
        return group.gr_name == owner and set(group.gr_mem) <= {owner}
    return False


def _text(fd: int) -> TextIO:
    return open(fd, "w", encoding="utf-8", errors="backslashreplace")


def _changeable(folder: Path) -> CowtraceError:
    return CowtraceError(
        f"other users can exchange files in {printable(str(folder))}",
        hint="use a folder that only you can change: see XDG_CACHE_HOME",
    )


def _foreign(path: Path, here: Path, what: str) -> CowtraceError:
    of = "of another user" if what != "is" else "another user's"
    return CowtraceError(
        f"cannot write {printable(str(path))}: {printable(str(here))} {what} {of}",
        hint="name a file of your own: -o FILE",
    )
