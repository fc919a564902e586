"""Mount a file system in user space (FUSE) that serves one file, and later answers nothing.

`python silent_files.py FOLDER FILE` serves FILE as FOLDER/served until a line comes on stdin.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cowtrace.libc import checked, libc

NAME = b"served"
# include/uapi/linux/fuse.h
LOOKUP, FORGET, GETATTR, OPEN, READ = 1, 2, 3, 14, 15
RELEASE, FLUSH, INIT, BATCH_FORGET = 18, 25, 26, 42
ENOENT, ENOSYS = 2, 38
FOREVER = 3600  # seconds that the kernel may keep an answer
HEAD = struct.Struct("<IIQQIIIHH")
ROOT, SERVED = 1, 2  # nodes
MS_NOSUID, MS_NODEV, MNT_DETACH = 2, 4, 2


def attributes(node: int, size: int) -> bytes:
    """struct fuse_attr."""
    mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o755
    times = [0] * 6
    return struct.pack("<6Q10I", node, size, 0, *times, mode, 1, 0, 0, 0, 4096, 0)


class Server:
    """Answers the requests of the kernel, one after the other."""

    def __init__(self, device: int, served: bytes) -> None:
        self._device = device
        self._served = served

    def answer(self) -> None:
        request = os.read(self._device, 1 << 20)
        _, code, unique, node, *_ = HEAD.unpack_from(request)
        body = request[HEAD.size :]
        if code in (FORGET, BATCH_FORGET):
            return
        reply = self._reply(code, node, body)
        error = 0 if reply is not None else -(ENOENT if code == LOOKUP else ENOSYS)
        reply = reply or b""
        os.write(self._device, struct.pack("<IiQ", 16 + len(reply), error, unique) + reply)

    def _reply(self, code: int, node: int, body: bytes) -> bytes | None:
        size = len(self._served)
        if code == INIT:
            major, minor = struct.unpack_from("<II", body)
            return struct.pack("<4IHHII36x", major, min(minor, 31), 0, 0, 0, 0, 1 << 16, 1)
        if code == LOOKUP and body.rstrip(b"\0") == NAME:
            head = struct.pack("<4Q2I", SERVED, 0, FOREVER, FOREVER, 0, 0)
            return head + attributes(SERVED, size)
        if code == GETATTR:
            return struct.pack("<QII", FOREVER, 0, 0) + attributes(node, size)
        if code == OPEN:
            return struct.pack("<QIi", 1, 0, 0)
        if code == READ:
            _, offset, wanted = struct.unpack_from("<QQI", body)
            return self._served[offset : offset + wanted]
        if code in (FLUSH, RELEASE):
            return b""
        return None


def serve(folder: str, file: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    checked(libc().mount(b"silent", folder.encode(), b"fuse", MS_NOSUID | MS_NODEV, options))
    print("mounted", flush=True)
    server = Server(device, Path(file).read_bytes())
    while True:
        ready, _, _ = select.select([device, sys.stdin], [], [])
        if sys.stdin in ready:
            break
        server.answer()
    print("silent", flush=True)
    signal.pause()


@contextmanager
def silent_files(folder: Path, file: Path) -> Iterator[Callable[[], None]]:
    """Serve `file` as FOLDER/served, until the function is called."""
    with subprocess.Popen(
        [sys.executable, __file__, str(folder), str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdin
        assert server.stdout

        def silence() -> None:
            assert server.stdin
            assert server.stdout
            server.stdin.write("\n")
            server.stdin.flush()
            assert server.stdout.readline() == "silent\n"

        try:
            if server.stdout.readline() != "mounted\n":
                pytest.skip("no file system in user space can be mounted")
            yield silence
        finally:
            server.kill()  # what waits for an answer gets an error now
            libc().umount2(ctypes.c_char_p(os.fsencode(folder)), MNT_DETACH)


if __name__ == "__main__":
    serve(*sys.argv[1:])
