"""The messages between the tracer and the symbolizer: JSON, then bytes, then descriptors.

The tracer sends a request. The symbolizer replies with frames, or asks for a file first; the
tracer answers that with a descriptor, or with none. Neither end trusts what it receives.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

MOST_BYTES = 1 << 17  # of a message; a Unix socket takes about 200 kB
MOST_FRAMES = 128
EXIT_NO_MEMORY = 1  # of the symbolizer; libdw exits with it, too

Identity = tuple[int, int]  # of a process: pid, and when it was started


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep messages apart."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(to: socket.socket, head: dict[str, Any], payload: bytes = b"", fd: int = -1) -> None:
    """Send one message. Raises OSError when the other end is gone, or the message is too long."""
    text = json.dumps(head, separators=(",", ":")).encode()
    data = [len(text).to_bytes(4, "little") + text, payload]
    if fd < 0:
        to.sendmsg(data)
    else:
        socket.send_fds(to, data, [fd])


def receive(from_: socket.socket, descriptors: int = 0) -> tuple[dict[str, Any], bytes, list[int]]:
    """The next message: its JSON object, its bytes, and at most that many descriptors.

    Raises EOFError: the other end is gone. ValueError: not such a message.
    """
    data, fds, _, _ = socket.recv_fds(from_, MOST_BYTES, descriptors)
    if not data:
        raise EOFError
    try:
        end = 4 + int.from_bytes(data[:4], "little")
        head = json.loads(data[4:end])
        if not isinstance(head, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        for fd in fds:
            os.close(fd)
        raise ValueError(f"not a message: {error}") from None
    return head, data[end:], fds
