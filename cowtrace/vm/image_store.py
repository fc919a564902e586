"""Store built images in the cache folder: each complete or absent, never half.

An image is built in a temporary folder beside its place and renamed into it. However the build
ends, even by SIGKILL, the place is then either untouched or complete. The next build removes a
temporary folder that was left behind, under the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cowtrace import cache
from cowtrace.files import own_folder
from cowtrace.vm import VmError

_STAGING = ".building-"
_ENTRY = re.compile(r"(kernel|root|box-root|busybox)-([\w.+~-]+-)?[0-9a-f]{16}")
_STALE_SECONDS = 14 * 24 * 3600  # an entry of an older definition is removed when unused for longer


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of all images: $XDG_CACHE_HOME/cowtrace/vm, or ~/.cache/cowtrace/vm.

    Raises CowtraceError where another user can change it, as by `sudo -E`.
    """
    place = cache.folder(environ, "vm")
    with contextlib.suppress(OSError):  # it is not there yet
        own_folder(place)
    return place


def key(*parts: str) -> str:
    """A name for this content and no other: 16 hex digits of the SHA-256 over the parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)  # the length: (ab, c) is not (a, bc)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def locked(store: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Lock the store, for one build at a time; yields the lock's file descriptor.

    Children that inherit the descriptor keep the lock: an orphan of a killed build cannot
    write into the next one. Calls `say` when it waits for another build.
    """
    try:
        own_folder(store, make=True)
        # Private: a user who can open it can lock it.
        descriptor = os.open(store / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise VmError(
            f"the cache folder {store} cannot be written: {error.strerror}",
            hint="set XDG_CACHE_HOME to a folder of yours",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is running: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staged(place: Path) -> Iterator[Path]:
    """A temporary folder that becomes `place` when the block ends without an exception."""
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=place.parent))
    try:
        new = staging / "new"
        new.mkdir()
        yield new
        if place.exists():
            place.rename(staging / "old")
        new.rename(place)
    finally:
        remove(staging)


def remove(tree: Path) -> None:
    """Remove a folder, unless something is still mounted below it."""
    mounted = Path("/proc/self/mountinfo").read_text()
    if f" {tree}/" in mounted:
        raise VmError(
            f"{tree} cannot be removed: something is mounted in it",
            hint=f"unmount what `grep {tree.name} /proc/mounts` shows",
        )
    shutil.rmtree(tree, ignore_errors=True)


def clean(store: Path, keep: frozenset[str]) -> None:
    """Remove what a killed build left, and entries not in `keep` that were unused for long.

    Folders with names of cowtrace's only: others, and what links lead to, stay.
    """
    for entry in store.iterdir():
        status = entry.lstat()
        if not stat.S_ISDIR(status.st_mode) or entry.name in keep:
            continue
        old = time.time() - status.st_mtime > _STALE_SECONDS
        if entry.name.startswith(_STAGING) or (old and _ENTRY.fullmatch(entry.name)):
            remove(entry)


def used(place: Path) -> None:
    """Mark an entry as used now."""
    with contextlib.suppress(OSError):  # read-only cache: nothing is cleaned there either
        os.utime(place)


def require_space(store: Path, need_mib: int, what: str) -> None:
    """Raises CowtraceError when the file system of `store` has less free space."""
    free_mib = shutil.disk_usage(store).free >> 20
    if free_mib < need_mib:
        raise VmError(
            f"no room to build {what}: {need_mib} MiB needed in {store}, {free_mib} MiB free",
            hint="free some space, or set XDG_CACHE_HOME to a folder on another disk",
        )
