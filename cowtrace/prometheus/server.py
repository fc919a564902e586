"""Serve one page over HTTP, /metrics, with TLS and basic authentication if configured.

One thread serves all clients, and waits for none: a request that is not complete in time is
dropped, and when there are too many connections, a new one ends the slowest.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.prometheus.connections import MOST, Connections, owner
from cowtrace.prometheus.http_messages import TEXT, answer_head, names_this_machine, parse
from cowtrace.prometheus.passwords import credentials
from cowtrace.prometheus.webconfig import WebConfig
from cowtrace.text import printable

PATH = "/metrics"
_HEAD_SECONDS = 5.0  # from the connection to the end of the request's head, with TLS's handshake
_ANSWER_SECONDS = 10.0  # from there to the end of the answer, with checking a password
_HEAD_BYTES = 8192
_CHUNK_BYTES = 1 << 16  # what a client that does not read makes us keep
_SEND_BYTES = 1 << 17  # what the kernel keeps of it besides
_METRICS = "text/plain; version=0.0.4; charset=utf-8"

Page = Callable[[], bytes]


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


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises CowtraceError."""
    family = socket.AF_INET6 if not host or ":" in host else socket.AF_INET
    try:
        listener = socket.create_server(
            (host, port), family=family, backlog=MOST, dualstack_ipv6=not host
        )
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise CowtraceError(
            f"cannot listen at {printable(shown)}: {error.strerror}",
            hint="is another exporter running? choose another one: --listen HOST:PORT",
        ) from None
    # Of each connection: the kernel takes 4 MiB else for a client that does not read.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    return listener


class Server:
    """Serves clients of a listener. `config` and `page` are called for each: they must not wait.

    `loopback`: the name of the loopback that the listener is bound to, if it is.
    """

    def __init__(
        self, listener: socket.socket, config: Callable[[], WebConfig], page: Page,
        loopback: str | None,
    ) -> None:  # fmt: skip
        self._listener, self._config, self._page = listener, config, page
        self._loopback = loopback
        self._connections = Connections()
        # One at a time, so that wrong passwords take one CPU at most.
        self._checking = ThreadPoolExecutor(1, "cowtrace-password")
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        # A client that disconnects or speaks no TLS is no error of ours.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._stopped = asyncio.Event()

    def on_readable(self, source: socket.socket, call: Callable[[], None]) -> None:
        """Call this, between clients, when there is something to read."""
        self._loop.add_reader(source, call)

    def run(self) -> None:
        """Serve until `stop`, which another thread calls."""
        with self._runner as runner:
            runner.run(self._serve())
        self._checking.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self) -> None:
        self._listener.setblocking(False)
        accepting = asyncio.create_task(self._accept())
        stopping = asyncio.create_task(self._stopped.wait())
        await asyncio.wait({accepting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():
            accepting.result()  # raises

    async def _accept(self) -> None:
        while True:
            try:
                client, peer = await self._loop.sock_accept(self._listener)
            except OSError:  # it is gone already; or there are no descriptors left
                await asyncio.sleep(0.05)
                continue
            task = asyncio.create_task(self._serve_one(client))
            task.add_done_callback(lambda _, client=client: client.close())  # type: ignore[misc]
            self._connections.add(task, owner(peer[0]))
            await asyncio.sleep(0)  # the others' turn, however many wait to be accepted

    async def _serve_one(self, client: socket.socket) -> None:
        transport: asyncio.BaseTransport | None = None
        try:
            reader = asyncio.StreamReader(_HEAD_BYTES)
            protocol = asyncio.StreamReaderProtocol(reader)
            config = self._config()
            async with asyncio.timeout(_HEAD_SECONDS):
                limits = {"ssl_handshake_timeout": _HEAD_SECONDS, "ssl_shutdown_timeout": 1.0}
                transport, _ = await self._loop.connect_accepted_socket(
                    lambda: protocol, client, ssl=config.tls, **(limits if config.tls else {})
                )
                writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.LimitOverrunError:
                    head = None
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer, content = await self._answer(config, head)
                if head and head.startswith(b"HEAD "):
                    content = b""
                writer.write(answer)
                for start in range(0, len(content), _CHUNK_BYTES):
                    writer.write(content[start : start + _CHUNK_BYTES])
                    await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, ssl.SSLError):  # TimeoutError is an OSError
            pass
        finally:
            if transport:
                transport.abort()  # type: ignore[attr-defined]

    async def _answer(self, config: WebConfig, head: bytes | None) -> tuple[bytes, bytes]:
        """The head and the content of the answer."""
        if head is None:
            return _short(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        request = parse(head)
        if request is None:
            return _short(HTTPStatus.BAD_REQUEST)
        fields = request.fields
        if self._loopback and not names_this_machine(fields.get("host"), (self._loopback,)):
            return _short(HTTPStatus.MISDIRECTED_REQUEST, "The Host is not this machine")
        if config.passwords and not await self._let_in(config, fields.get("authorization")):
            realm = {"WWW-Authenticate": 'Basic realm="cowtrace"'}
            return _short(HTTPStatus.UNAUTHORIZED, **realm)
        if request.method not in ("GET", "HEAD"):
            return _short(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        if request.path != PATH:
            return _short(HTTPStatus.NOT_FOUND, f"Here is only {PATH}")
        page = self._page()
        return answer_head(HTTPStatus.OK, _METRICS, len(page)), page

    async def _let_in(self, config: WebConfig, authorization: str | None) -> bool:
        given = credentials(authorization)
        if given is None:
            return False
        if config.passwords.remembers(given):
            return True
        return await self._loop.run_in_executor(self._checking, config.passwords.check, given)


def _short(status: HTTPStatus, words: str = "", **fields: str) -> tuple[bytes, bytes]:
    content = f"{words or status.phrase}\n".encode()
    return answer_head(status, TEXT, len(content), **fields), content
