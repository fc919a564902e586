"""Clients that keep an exporter busy: python3 clients.py KIND PORT, until killed."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
import threading
import time

HEAD = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def slowloris(port: int) -> None:
    """A byte now and then: never silent for long enough to be dropped."""
    held: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            while len(held) < 200:
                held.append(connected(port))
        for one in [*held]:
            try:
                one.send(b"X")
            except OSError:
                held.remove(one)
        time.sleep(0.5)


def unread(port: int) -> None:
    """Ask, and read nothing of the answer."""
    held: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            one.settimeout(5)
            one.connect(("127.0.0.1", port))
            one.sendall(HEAD + b"\r\n")
            held.append(one)
        del held[:-300]
        time.sleep(0.01)


def flood(port: int) -> None:
    """As many scrapes as can be had."""

    def ask() -> None:
        while True:
            with contextlib.suppress(OSError), connected(port) as one:
                one.sendall(HEAD + b"Accept-Encoding: gzip\r\nConnection: close\r\n\r\n")
                while one.recv(65536):
                    pass

    for _ in range(8):
        threading.Thread(target=ask).start()


def garbage(port: int) -> None:
    """What is no request: binary, endless lines, endless heads, resets."""
    choose = random.Random(23)
    while True:
        with contextlib.suppress(OSError), connected(port) as one:
            kind = choose.randrange(6)
            if kind == 0:
                one.sendall(os.urandom(4096))
            elif kind == 1:
                one.sendall(b"GET /" + b"A" * (1 << 20))
            elif kind == 2:
                one.sendall(HEAD + b"".join(b"X-%d: y\r\n" % i for i in range(5000)))
            elif kind == 3:
                one.sendall(b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx")
            elif kind == 4:
                one.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        time.sleep(0.005)


if __name__ == "__main__":
    {f.__name__: f for f in (slowloris, unread, flood, garbage)}[sys.argv[1]](int(sys.argv[2]))
