"""Parse the head of an HTTP request; make answers with headers that keep browsers out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

TEXT = "text/plain; charset=utf-8"
_LINE = re.compile(r"([!-~]+) ([!-~]+) HTTP/1\.[01]")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",  # no other site's page may embed it
    "Cache-Control": "no-store",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. `fields`: headers by lower-case name."""

    method: str
    path: str  # without the query
    fields: dict[str, str]


def parse(head: bytes) -> Request | None:
    """Parse a head, up to its empty line; None: it is malformed, or has two Host fields."""
    line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    first, found = _LINE.fullmatch(line), [_FIELD.fullmatch(each) for each in lines]
    if not first or not all(found):
        return None
    pairs = [(each[1].lower(), each[2]) for each in found if each]
    if sum(name == "host" for name, _ in pairs) > 1:
        return None
    return Request(first[1], first[2].partition("?")[0], dict(pairs))


def names_this_machine(host: str | None, own: Container[str]) -> bool:
    """True if a Host field names the loopback or one of our `own` names, or if there is none.

    A web site can have its own name resolve to 127.0.0.1, so that a browser takes this server
    for a part of that site and lets its scripts read the answer (DNS rebinding). A browser
    always sends the name.
    """
    if host is None:
        return True
    name = re.sub(r":\d*$", "", host).lower().removesuffix(".")
    if name in own or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def answer_head(status: HTTPStatus, kind: str, size: int, **fields: str) -> bytes:
    """The head of an answer whose content has `size` bytes."""
    fields = {
        "Date": formatdate(usegmt=True),
        "Content-Type": kind,
        "Content-Length": str(size),
        **_ALWAYS,
        **fields,
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *map(": ".join, fields.items())]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
