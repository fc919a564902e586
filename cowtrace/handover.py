"""Hand content to another process as a copy in memory; the giver waits for nobody.

Ends of a socket pair: a tracer, which may make no connection, gives; a process without privileges
takes, and talks to others.
"""

from __future__ import annotations

import os
import socket

from cowtrace.errors import CowtraceError


def pair() -> tuple[socket.socket, socket.socket]:
    """The giver's end and the taker's. Few messages wait in it."""
    giver, taker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    giver.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least
    return giver, taker


def give(channel: socket.socket, content: bytes, kind: str, *, what: str) -> bool:
    """Hand over; False: too much waits to be taken, and this was dropped.

    Raises CowtraceError if the process that does `what` has ended.
    """
    with os.fdopen(os.memfd_create("handover"), "wb", buffering=0) as file:
        file.write(content)
        try:
            socket.send_fds(channel, [kind.encode()], [file.fileno()], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            raise CowtraceError(
                f"the process that {what} has ended",
                hint="was it killed, or out of memory? start the exporter again",
            ) from None
    return True


def take(channel: socket.socket) -> tuple[str, bytes] | None:
    """Wait for the next: its kind and content. None: the giver has gone."""
    kind, fds, _, _ = socket.recv_fds(channel, 64, 1)
    if not fds:
        return None
    with os.fdopen(fds[0], "rb") as file:
        file.seek(0)
        return kind.decode(), file.read()
