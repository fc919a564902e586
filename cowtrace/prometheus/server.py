"""Serve one page over HTTP, /metrics, with TLS and basic authentication if configured."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.prometheus.webconfig import WebConfig
from cowtrace.text import printable

PATH = "/metrics"
MOST_CLIENTS = 32  # at the same time
_TEXT = "text/plain; charset=utf-8"
_TIMEOUT_SECONDS = 10.0  # for a silent client

Page = Callable[[str], tuple[bytes, str]]  # an Accept header -> the page and its type


def address(listen: str) -> tuple[str, int]:
    """Parse `127.0.0.1:9435`, `[::1]:9435`, `:9435` (every address). Raises CowtraceError."""
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise CowtraceError(
            f"{printable(listen)} is no address to listen at",
            hint="--listen HOST:PORT, as in 127.0.0.1:9435 or [::1]:9435",
            exit_code=EXIT_USAGE,
        )
    return host, int(port)


def is_loopback(host: str) -> bool:
    """True if only this machine reaches the host. Raises CowtraceError: no such host."""
    try:
        found = socket.getaddrinfo(host, None) if host else []
    except OSError as error:
        raise CowtraceError(
            f"cannot find {printable(host)}: {error.strerror}",
            hint="name an address of this machine: --listen 127.0.0.1:9435",
        ) from None
    return bool(found) and all(
        ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found
    )


@contextmanager
def served(host: str, port: int, config: WebConfig, page: Page) -> Iterator[int]:
    """Serve from other threads until the block is left; yields the port. Raises CowtraceError."""
    handler = type("Handler", (_Handler,), {"config": config, "page": staticmethod(page)})
    family = socket.AF_INET6 if not host or ":" in host else socket.AF_INET
    free = threading.BoundedSemaphore(MOST_CLIENTS)
    kind = type("Server", (_Server,), {"address_family": family, "free": free})
    try:
        server: ThreadingHTTPServer = kind((host, port), handler)
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise CowtraceError(
            f"cannot listen at {printable(shown)}: {error.strerror}",
            hint="is another exporter running? choose another one: --listen HOST:PORT",
        ) from None
    if config.tls:
        # Leave the handshake to the request's thread: here, one client could block all others.
        server.socket = config.tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that hangs must not delay the end
    free: threading.BoundedSemaphore

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a request in a thread of its own; close it at once if too many are served."""
        if self.free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnects or speaks no TLS."""


class _Handler(BaseHTTPRequestHandler):
    config: WebConfig
    page: Page
    timeout = _TIMEOUT_SECONDS
    server_version, sys_version = "cowtrace", ""

    def do_GET(self) -> None:
        if not self.config.lets_in(self.headers.get("Authorization")):
            demanded = {"WWW-Authenticate": 'Basic realm="cowtrace"'}
            self._answer(HTTPStatus.UNAUTHORIZED, b"Unauthorized\n", **demanded)
        elif self.path.partition("?")[0] != PATH:
            self._answer(HTTPStatus.NOT_FOUND, f"Here is only {PATH}\n".encode())
        else:
            content, kind = self.page(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, content, kind)

    def log_message(self, format: str, *args: object) -> None:
        """Do not log: clients choose what they send."""

    def _answer(
        self, status: HTTPStatus, content: bytes, kind: str = _TEXT, **headers: str
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
