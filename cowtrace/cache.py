"""Keep what takes long to compute in the user's cache folder; without it, cowtrace starts slower.

A folder that another user can change, as by `sudo -E`, is not used. A file is read only if it
belongs to this user, nobody else can read or write it, and its content has the checksum in its
first line.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.files import own_folder

_FORMAT = "2"
_KEY = re.compile(r"[0-9a-f]{64}")  # a file of any other name is not cowtrace's
_MOST_FILES = 512  # of some 40 KiB; the least recently used ones are removed


def folder(environ: Mapping[str, str] = os.environ, name: str = "programs") -> Path:
    """$XDG_CACHE_HOME/cowtrace/programs, or in the home folder by the user database.

    Not $HOME: sudo may leave it as it was, and root's files are of no use in another's home.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    if base.startswith("/"):  # a relative one is invalid, by the XDG specification
        return Path(base, "cowtrace", name)
    return Path(pwd.getpwuid(os.geteuid()).pw_dir, ".cache", "cowtrace", name)


def key(*parts: str) -> str:
    """The SHA-256 of everything that the data depends on, this kernel included."""
    uname = os.uname()
    digest = hashlib.sha256()
    for part in (_FORMAT, uname.release, uname.version, uname.machine, *parts):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def boot_id() -> str:
    """Identifies this boot: part of the key of data that can change with the next one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def read(name: str) -> bytes | None:
    """The data of a key; None when there is none that can be trusted."""
    with suppress(OSError, CowtraceError):
        path = own_folder(folder()) / name
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
                return None
            if status.st_uid != os.geteuid():
                return None
            head, _, data = file.read().partition(b"\n")
        if head == _head(name, data):
            os.utime(path)
            return data
    return None


def write(name: str, data: bytes) -> None:
    """Keep data under a key, whole or not at all. Failures are ignored."""
    with suppress(OSError, CowtraceError):
        into = own_folder(folder(), make=True)
        staged = into / f".{name}.{os.getpid()}"
        try:
            with os.fdopen(
                os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.write(_head(name, data) + b"\n" + data)
            staged.replace(into / name)
        finally:
            staged.unlink(missing_ok=True)
        kept = [path for path in into.iterdir() if _KEY.fullmatch(path.name)]
        used = sorted(kept, key=lambda path: path.lstat().st_mtime, reverse=True)
        for path in used[_MOST_FILES:]:
            path.unlink()


def forget(name: str) -> None:
    """Remove the data of a key."""
    with suppress(OSError, CowtraceError):
        (own_folder(folder()) / name).unlink()


def _head(name: str, data: bytes) -> bytes:
    return f"{name} {hashlib.sha256(data).hexdigest()}".encode()
