"""Read a web config, as Prometheus' exporters have it: TLS and basic auth, from a YAML file.

https://prometheus.io/docs/prometheus/latest/configuration/https/: tls_server_config with
cert_file, key_file, client_auth_type, client_ca_file and min_version; basic_auth_users with bcrypt
hashes. Other settings are refused, not ignored.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cowtrace.errors import CowtraceError
from cowtrace.prometheus.passwords import Passwords, is_hash, not_installed
from cowtrace.text import printable

_TLS = {"cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version"}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_HINT = "its format: https://prometheus.io/docs/prometheus/latest/configuration/https/"
_MOST_BYTES = 1 << 20  # of each file

Version = tuple[int, ...] | None  # distinguishes what a file was; None: it could not be read


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What a request must provide to be answered."""

    tls: ssl.SSLContext | None = None
    passwords: Passwords = field(default_factory=lambda: Passwords({}))
    warnings: tuple[str, ...] = ()  # files that other users can read or write

    @property
    def keeps_out(self) -> bool:
        """True if every client must authenticate: by a password or a certificate."""
        return bool(self.passwords or (self.tls and self.tls.verify_mode is ssl.CERT_REQUIRED))


def version(status: os.stat_result) -> Version:
    """What changes when a file is written, replaced, or gets another mode."""
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
        status.st_mode,
    )  # fmt: skip


def read(path: Path, used: dict[Path, Version] | None = None) -> WebConfig:
    """Read a file. `used` gets each file that was opened, also if this fails.

    Raises CowtraceError: it cannot be read, or is no web config.
    """
    return _Reader(path, {} if used is None else used).read()


class _Reader:
    def __init__(self, path: Path, used: dict[Path, Version]) -> None:
        self._path, self._shown, self._used = path, printable(str(path)), used
        self._warnings: list[str] = []

    def read(self) -> WebConfig:
        try:
            import yaml
        except ImportError:
            raise not_installed("PyYAML") from None
        try:
            with self._opened(self._path) as (fd, exposed):
                text = os.read(fd, _MOST_BYTES).decode()
            settings: Any = yaml.safe_load(text) or {}
        except OSError as error:
            raise CowtraceError(
                f"cannot read {self._shown}: {error.strerror}", hint=_HINT
            ) from None
        except yaml.MarkedYAMLError as error:  # without the line itself: it may have a secret
            where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise self._bad(f"{error.problem}{where}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise self._bad(str(error)) from None
        if not isinstance(settings, dict):
            raise self._bad("it is no mapping")
        if unknown := settings.keys() - {"tls_server_config", "basic_auth_users"}:
            raise self._bad(f"unknown: {', '.join(map(str, unknown))}")
        tls = settings.get("tls_server_config") or {}
        users = settings.get("basic_auth_users") or {}
        if not isinstance(tls, dict) or not isinstance(users, dict):
            raise self._bad("tls_server_config and basic_auth_users are mappings")
        for name, value in users.items():
            if not is_hash(value):
                raise self._bad(f"the password of {name} is no bcrypt hash")
        if users or exposed == "write":
            self._warn(self._path, exposed)
        context = self._context(tls) if tls else None
        passwords = Passwords({str(name): value for name, value in users.items()})
        return WebConfig(context, passwords, tuple(self._warnings))

    def _context(self, tls: dict[str, Any]) -> ssl.SSLContext:
        if unknown := tls.keys() - _TLS:
            raise self._bad(f"unknown in tls_server_config: {', '.join(map(str, unknown))}")
        client = str(tls.get("client_auth_type") or "NoClientCert")
        lowest = str(tls.get("min_version") or "TLS12")
        if client not in _CLIENTS or lowest not in _VERSIONS:
            raise self._bad(f"client_auth_type {client} or min_version {lowest} is not known")
        if not tls.get("cert_file") or not tls.get("key_file"):
            raise self._bad("tls_server_config needs cert_file and key_file")
        if _CLIENTS[client] is not ssl.CERT_NONE and not tls.get("client_ca_file"):
            raise self._bad(f"client_auth_type {client} needs client_ca_file")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[lowest]
        certificate, key, authority = (
            self._path.parent / str(tls[name]) if tls.get(name) else None
            for name in ("cert_file", "key_file", "client_ca_file")
        )
        assert certificate
        assert key
        try:
            with self._opened(certificate) as (fd, _), self._opened(key) as (key_fd, exposed):
                self._warn(key, exposed)
                # OpenSSL opens these by name; through the descriptor it is the checked file. It
                # must not ask for a passphrase at the terminal: an empty one fails.
                context.load_cert_chain(_name(fd), _name(key_fd), password=lambda: "")
            if authority:
                with self._opened(authority) as (fd, _):
                    context.load_verify_locations(_name(fd))
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise self._bad(f"its certificate or key cannot be taken: {error}") from None
        context.verify_mode = _CLIENTS[client]
        return context

    @contextmanager
    def _opened(self, path: Path) -> Iterator[tuple[int, str]]:
        """Open a regular file without waiting, as for a FIFO's writer; what others may do to it."""
        self._used[path] = None
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(fd)
            self._used[path] = version(status)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
                raise ValueError(f"{path} is no regular file of at most 1 MiB")
            writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            yield fd, "write" if writable else "read" if status.st_mode & stat.S_IROTH else ""
        finally:
            os.close(fd)

    def _warn(self, path: Path, exposed: str) -> None:
        if exposed:
            self._warnings.append(f"other users can {exposed} {printable(str(path))}: chmod it")

    def _bad(self, why: str) -> CowtraceError:
        return CowtraceError(f"{self._shown} is no web config: {printable(why)}", hint=_HINT)


def _name(fd: int) -> str:
    return f"/proc/self/fd/{fd}"
