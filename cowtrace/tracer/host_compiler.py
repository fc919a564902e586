"""Have the host of `cowtrace vm run` compile BPF programs: emulated, BCC takes 15 s.

This is the guest's end. A request and its answer are a line each, through a port of the VM that
nothing else uses. The host's end is cowtrace/vm/compiler.py.
"""

from __future__ import annotations

import errno
import json
import os
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

PORT = "cowtrace.compiler"
_PORTS = Path("/sys/class/virtio-ports")
_PATIENCE_SECONDS = 30.0  # for other processes' requests, and for the answer
_RETRY_SECONDS = 0.02
_CHUNK = 1 << 16


def ask(digest: str, flags: Sequence[str]) -> bytes | None:
    """The bytecode that the host compiled, see bytecode.py; None where no host compiles.

    digest: of the source, see compiler.py. The host compiles its own copy of it: None if that
    differs, or if it does not compile.
    """
    device = _device()
    if not device:
        return None
    until = time.monotonic() + _PATIENCE_SECONDS
    with suppress(OSError):
        port = _open(device, until)
        try:
            return _exchange(port, digest, flags, until)
        finally:
            os.close(port)
    return None


def _device() -> Path | None:
    with suppress(OSError):
        for port in _PORTS.iterdir():
            if (port / "name").read_text().strip() == PORT:
                return Path("/dev", port.name)
    return None


def _open(device: Path, until: float) -> int:
    """One process at a time has it open: the others wait."""
    while True:
        try:
            return os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                raise
        time.sleep(_RETRY_SECONDS)


def _exchange(port: int, digest: str, flags: Sequence[str], until: float) -> bytes | None:
    number = os.urandom(8).hex()
    request = json.dumps({"number": number, "digest": digest, "flags": list(flags)}).encode()
    # The first newline ends what a process that was killed has left of its request.
    left = memoryview(b"\n" + request + b"\n")
    while left:
        _wait(port, select.POLLOUT, until)
        left = left[os.write(port, left[:_CHUNK]) :]
    head = number.encode() + b" "
    for line in _lines(port, until):
        if line.startswith(head):  # no answer to an earlier request that nobody read
            return line[len(head) :] or None
    return None


def _lines(port: int, until: float) -> Iterator[bytes]:
    begun = b""
    while True:
        _wait(port, select.POLLIN, until)
        if not (piece := os.read(port, _CHUNK)):
            return
        *lines, begun = (begun + piece).split(b"\n")
        yield from lines


def _wait(port: int, event: int, until: float) -> None:
    """Raises OSError when the host is gone, or too slow."""
    poll = select.poll()
    poll.register(port, event)
    ready = poll.poll(max(0.0, until - time.monotonic()) * 1000)
    if not ready or not ready[0][1] & event:
        raise OSError(errno.ETIMEDOUT, "the host does not answer")
