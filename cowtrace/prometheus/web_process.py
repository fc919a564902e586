"""Serve the pages in a process of its own, which has none of the tracer's privileges.

It reads what strangers send. And it answers at once, whatever the tracer does meanwhile: a storm
of forks keeps that process busy for seconds. If the server does not take a page, it is dropped: the
tracer waits for nobody.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from prometheus_client import generate_latest

from cowtrace.handover import give, pair, take
from cowtrace.libc import end_with
from cowtrace.prometheus.metrics import Family, web_config
from cowtrace.prometheus.reloading import Reloading
from cowtrace.prometheus.server import Server
from cowtrace.prometheus.webconfig import WebConfig

_AGAIN_SECONDS = 1.0  # after a server that ended


class Pages:
    """The tracer's end: what it writes here is served."""

    def __init__(self, process: int, channel: socket.socket) -> None:
        self._process, self._channel = process, channel

    def publish(self, page: bytes) -> None:
        """Serve this page from now on. Raises CowtraceError if the serving process has ended."""
        give(self._channel, page, "page", what="serves the metrics")


@contextmanager
def served(
    listener: socket.socket,
    loopback: str | None,
    web: Reloading | None,
    confine: Callable[[], None],
) -> Iterator[Pages]:
    """Serve at this listener until the block is left. `confine` gives up privileges.

    Call it before probes are attached: the process must not have their descriptors.
    """
    ours, theirs = pair()
    tracer = os.getpid()
    process = os.fork()
    if not process:
        try:
            ours.close()
            end_with(tracer)
            _keep_serving(listener, loopback, web, theirs, confine)
        finally:
            os._exit(1)
    theirs.close()
    listener.close()
    try:
        yield Pages(process, ours)
    finally:
        ours.close()
        os.kill(process, signal.SIGKILL)  # its child ends with it
        os.waitpid(process, 0)


def _keep_serving(
    listener: socket.socket,
    loopback: str | None,
    web: Reloading | None,
    channel: socket.socket,
    confine: Callable[[], None],
) -> None:
    """Serve in a child; start another one if it ends."""
    # Ctrl-C and a service manager's SIGTERM go to all processes: the tracer ends this one.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    confine()
    while True:
        parent = os.getpid()
        child = os.fork()
        if not child:
            try:
                end_with(parent)
                _serve(listener, loopback, web, channel)
            except Exception as error:
                sys.stderr.write(f"cowtrace: the server of the metrics failed: {error!r}\n")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        time.sleep(_AGAIN_SECONDS)


def _serve(
    listener: socket.socket, loopback: str | None, web: Reloading | None, channel: socket.socket
) -> None:
    def received() -> bytes:
        page = _received(channel)
        return page + generate_latest(_State(web)) if web else page  # type: ignore[arg-type]

    unprotected, page = WebConfig(), received()

    def renew() -> None:
        nonlocal page
        page = received()  # one for all clients, however slow they read it

    server = Server(listener, lambda: web.current if web else unprotected, lambda: page, loopback)
    server.on_readable(channel, renew)
    with web.refreshed() if web else nullcontext():
        server.run()


def _received(channel: socket.socket) -> bytes:
    """The next page; waits for it. Ends this process when the tracer has gone."""
    taken = take(channel)
    if taken is None:
        os._exit(0)
    return taken[1]


class _State:
    """A registry of whether the web config is in use."""

    def __init__(self, web: Reloading) -> None:
        self._web = web

    def collect(self) -> Iterator[Family]:
        yield web_config(self._web.good)
