"""What takes long to find out, in the user's cache folder: lost or damaged, it only costs time.

A file is taken only if it belongs to this user, nobody else can read or write it, and its
content has the sum that it says it has.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_FORMAT = "2"
_KEPT = 32  # files; those unused for longest go


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """$XDG_CACHE_HOME/cowtrace/programs, or in the home of this user, whatever HOME says.

    sudo may leave HOME as it was, and root's files are no use in another's home.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    if base.startswith("/"):  # a relative one is invalid, by the XDG specification
        return Path(base, "cowtrace", "programs")
    return Path(pwd.getpwuid(os.geteuid()).pw_dir, ".cache", "cowtrace", "programs")


def key(*parts: str) -> str:
    """The SHA-256 of all that it depends on, and of this kernel."""
    uname = os.uname()
    digest = hashlib.sha256()
    for part in (_FORMAT, uname.release, uname.version, uname.machine, *parts):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def boot_id() -> str:
    """Of this boot of this kernel: what cannot change before the next one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def read(name: str) -> bytes | None:
    """What was kept by that key; None when it is not there or cannot be trusted."""
    path = folder() / name
    with suppress(OSError):
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
    """Keep it by that key, whole or not at all; when it cannot be kept, it is not."""
    into = folder()
    staged = into / f".{name}.{os.getpid()}"
    with suppress(OSError):
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(
                os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.write(_head(name, data) + b"\n" + data)
            staged.replace(into / name)
        finally:
            staged.unlink(missing_ok=True)
        used = sorted(into.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in used[_KEPT:]:
            path.unlink()


def forget(name: str) -> None:
    """It was of no use."""
    with suppress(OSError):
        (folder() / name).unlink()


def _head(name: str, data: bytes) -> bytes:
    return f"{name} {hashlib.sha256(data).hexdigest()}".encode()
