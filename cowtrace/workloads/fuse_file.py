"""Serve one file of known bytes by FUSE, from a process of its own: mounted on a file, read-only.

Each read is answered by that process, so that a fault of a page that is not cached must wait.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from cowtrace.libc import checked, libc
from cowtrace.workloads import settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.region import FILE_BYTE, PAGE_BYTES

# include/uapi/linux/fuse.h
_GETATTR, _OPEN, _READ, _RELEASE, _INIT = 3, 14, 15, 18, 26
_FORGET, _INTERRUPT, _BATCH_FORGET = 2, 36, 42  # not to be answered
_MAJOR, _MINOR = 7, 31
_IN = struct.Struct("=IIQQIIII")  # fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, pad
_OUT = struct.Struct("=IiQ")  # fuse_out_header: len, error, unique
_READ_IN = struct.Struct("=QQI")  # fuse_read_in: fh, offset, size
_INIT_OUT = struct.Struct("=IIIIHHII36x")  # fuse_init_out; no readahead, no flags
_ATTR_OUT = struct.Struct("=QII6Q10I")  # fuse_attr_out: valid, nsec, dummy, struct fuse_attr
_OPEN_OUT = struct.Struct("=QIi")  # fuse_open_out
_REQUEST_BYTES = 1 << 16
_DEVICE = "/dev/fuse"
_WRITE_BYTES = 4096  # max_write: nothing is written
_ROOT_INODE, _MODE = 1, 0o100444
_VALID_SECONDS = 60
_MS_FLAGS = 1 | 2 | 4 | 8  # MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
_COUNT = struct.Struct("=Q")


class FuseFile(NamedTuple):
    """The mounted file."""

    file: IO[bytes]
    reads: Callable[[], int]  # how many reads the server has answered


@contextmanager
def mounted(pages: int) -> Iterator[FuseFile]:
    """Mount a file of `pages` pages; unmounted at the end, however this process ends.

    Enter it before the memory under test is touched: the server is a fork of this process.
    Raises Unsupported where FUSE is missing, or mounting is not allowed.
    """
    if not Path(_DEVICE).exists():
        settings.run("modprobe", "fuse")
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="cowtrace-fuse-", dir="/var/tmp")
        path = Path(folder, "file")
        script = 'umount -l "$1"; rm -r "$2"'
        stack.enter_context(settings.restored_by(script, str(path), folder))
        path.touch()  # what is mounted on it is a file, too
        counter = mmap.mmap(-1, PAGE_BYTES)  # shared with the server
        _mount_and_serve(stack, path, pages, counter)
        file = stack.enter_context(path.open("rb", buffering=0))
        yield FuseFile(file, lambda: int(_COUNT.unpack_from(counter)[0]))


def _mount_and_serve(stack: ExitStack, path: Path, pages: int, counter: mmap.mmap) -> None:
    try:
        device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={device},rootmode={_MODE:o},user_id={os.geteuid()},group_id={os.getegid()}"
        kind = b"fuse"
        flags = ctypes.c_ulong(_MS_FLAGS)
        checked(libc().mount(b"cowtrace", os.fsencode(path), kind, flags, options.encode()))
    except OSError as error:
        raise Unsupported(f"FUSE: {error.strerror}") from error
    server = os.fork()
    if server == 0:
        try:
            os.dup2(device, 3)
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))  # also what the restoring shell waits for
            _serve(3, pages * PAGE_BYTES, counter)
        finally:
            os._exit(0)
    os.close(device)
    stack.callback(_end, server)


def _end(server: int) -> None:
    os.kill(server, signal.SIGKILL)  # closes the device: what still waits gets an error
    os.waitpid(server, 0)


def _serve(device: int, size: int, counter: mmap.mmap) -> None:
    """Answer requests until the file system is unmounted."""
    with suppress(OSError):  # ENODEV
        while True:
            request = os.read(device, _REQUEST_BYTES + _IN.size)
            _, opcode, unique, *_ = _IN.unpack_from(request)
            if opcode in (_FORGET, _INTERRUPT, _BATCH_FORGET):
                continue
            if opcode == _READ:
                (reads,) = _COUNT.unpack_from(counter)
                _COUNT.pack_into(counter, 0, reads + 1)
            error, body = _answer(opcode, request[_IN.size :], size)
            os.write(device, _OUT.pack(_OUT.size + len(body), -error, unique) + body)


def _answer(opcode: int, body: bytes, size: int) -> tuple[int, bytes]:
    """An errno and the body of the answer."""
    if opcode == _INIT:
        return 0, _INIT_OUT.pack(_MAJOR, _MINOR, 0, 0, 1, 1, _WRITE_BYTES, 1)
    if opcode == _GETATTR:
        sizes = _ROOT_INODE, size, size // 512, 0, 0, 0
        rest = 0, 0, 0, _MODE, 1, 0, 0, 0, PAGE_BYTES, 0
        return 0, _ATTR_OUT.pack(_VALID_SECONDS, 0, 0, *sizes, *rest)
    if opcode == _OPEN:
        return 0, _OPEN_OUT.pack(0, 0, 0)
    if opcode == _READ:
        _, offset, wanted = _READ_IN.unpack_from(body)
        return 0, bytes([FILE_BYTE]) * max(0, min(wanted, size - offset))
    if opcode == _RELEASE:
        return 0, b""
    return errno.ENOSYS, b""
