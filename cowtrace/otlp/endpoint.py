"""Where messages are sent: parse its URL and headers, and send one over HTTP."""

from __future__ import annotations

import http.client
import ipaddress
import re
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.text import printable

PATHS = {"metrics": "/v1/metrics", "profiles": "/v1development/profiles"}
_AGAIN = frozenset({429, 502, 503, 504})  # that OTLP's specification has clients retry
_SECONDS = 10.0  # without an answer; OTEL_EXPORTER_OTLP_TIMEOUT's default
_MOST_ANSWER_BYTES = 1 << 16
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # of a header
_VALUE = re.compile(r"[\t -~]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A collector. Its headers may hold a password: they are not shown."""

    secure: bool
    host: str
    port: int | None  # None: the scheme's
    path: str  # without a slash at its end
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent stays on this machine."""
        if self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    @property
    def shown(self) -> str:
        """Its URL, printable."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return printable(f"http{'s' * self.secure}://{host}{port}{self.path}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a message."""

    done: bool
    again: bool  # not done, but it may be later
    words: str  # why not; or what the collector says besides
    content: bytes = b""
    after_seconds: float | None = None  # when it wants to be asked again


def parse(url: str, headers: Iterable[tuple[str, str]] = ()) -> Endpoint:
    """Raises CowtraceError, which does not show what may be a password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise _refused("the endpoint is no URL of a collector", "--endpoint http://HOST:4318")
    if parts.username is not None or parts.password is not None:
        raise _refused("the endpoint's URL has a user's name", "give it as a --header")
    if not printable(url).isascii() or printable(url) != url or " " in url:
        raise _refused("the endpoint has characters that no URL has", "--endpoint URL")
    found = tuple(headers)
    for name, value in found:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise _refused(f"{printable(name)} is no header", "--header NAME=VALUE")
    return Endpoint(parts.scheme == "https", host, port, parts.path.rstrip("/"), found)


def header(text: str) -> tuple[str, str]:
    """Parse `NAME=VALUE`. Raises CowtraceError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise _refused(f"{printable(name)[:40]} has no value", "--header NAME=VALUE")
    return name.strip(), value.strip()


def listed_headers(text: str) -> tuple[tuple[str, str], ...]:
    """Parse OTEL_EXPORTER_OTLP_HEADERS: `a=b,c=d`, values in percent-encoding."""
    pairs = (header(part) for part in text.split(",") if part.strip())
    return tuple((unquote(name), unquote(value)) for name, value in pairs)


def post(endpoint: Endpoint, signal: str, message: bytes) -> Answer:
    """Send one message of a signal of PATHS. Follows no redirect, which would get the headers."""
    connection: http.client.HTTPConnection
    if endpoint.secure:
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_SECONDS)
    headers = {"Content-Type": "application/x-protobuf", "User-Agent": "cowtrace"}
    try:
        connection.request(
            "POST", endpoint.path + PATHS[signal], message, headers | dict(endpoint.headers)
        )
        answer = connection.getresponse()
        content = answer.read(_MOST_ANSWER_BYTES)
    except ssl.SSLCertVerificationError as error:
        return Answer(False, True, f"its certificate is refused: {error.verify_message}")
    except (OSError, http.client.HTTPException) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
        return Answer(False, True, str(words))
    finally:
        connection.close()
    if 200 <= answer.status < 300:
        return Answer(True, False, "", content)
    wait = answer.headers.get("Retry-After", "")
    return Answer(
        False, answer.status in _AGAIN, f"it answers {answer.status} {answer.reason}",
        after_seconds=float(wait) if wait.isascii() and wait.isdigit() else None,
    )  # fmt: skip


def _refused(problem: str, hint: str) -> CowtraceError:
    return CowtraceError(problem, hint=hint, exit_code=EXIT_USAGE)
