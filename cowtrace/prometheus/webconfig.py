"""Read a web config, as Prometheus' exporters have it: TLS and basic auth, from a YAML file.

https://prometheus.io/docs/prometheus/latest/configuration/https/: tls_server_config with
cert_file, key_file, client_auth_type, client_ca_file and min_version; basic_auth_users with bcrypt
hashes. Other settings are refused, not ignored.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cowtrace.errors import CowtraceError
from cowtrace.text import printable

_TLS = {"cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version"}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_HINT = "its format: https://prometheus.io/docs/prometheus/latest/configuration/https/"
# The hash of no password. It is checked for an unknown name, so that this takes as long.
_NOBODY = b"$2b$10$abcdefghijklmnopqrstuuv2xyyFCAcmWQUZpVjRDeKsSmM8.dq0S"


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What a request must provide to be answered."""

    tls: ssl.SSLContext | None = None
    users: dict[str, bytes] = field(default_factory=dict)  # name: bcrypt hash
    _passed: set[bytes] = field(default_factory=set)  # digests of accepted names and passwords

    @property
    def keeps_out(self) -> bool:
        """True if every client must authenticate: by a password or a certificate."""
        return bool(self.users or (self.tls and self.tls.verify_mode is ssl.CERT_REQUIRED))

    def lets_in(self, authorization: str | None) -> bool:
        """True if the value of the Authorization header is accepted."""
        if not self.users:
            return True
        kind, _, encoded = (authorization or "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
            name, _, password = given.decode().partition(":")
        except ValueError:
            return False
        if kind.lower() != "basic":
            return False
        digest = hashlib.sha256(given).digest()  # bcrypt is slow on purpose: once is enough
        if any(hmac.compare_digest(digest, passed) for passed in self._passed):
            return True
        if not _matches(password.encode(), self.users.get(name, _NOBODY)) or name not in self.users:
            return False
        self._passed.add(digest)
        return True


def read(path: Path) -> WebConfig:
    """Read a file. Raises CowtraceError: it cannot be read, or is no web config."""
    shown = printable(str(path))
    try:
        import yaml
    except ImportError:
        raise _not_installed("PyYAML") from None
    try:
        settings: Any = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise CowtraceError(f"cannot read {shown}: {error.strerror}", hint=_HINT) from None
    except (yaml.YAMLError, ValueError) as error:
        raise _bad(shown, str(error)) from None
    if not isinstance(settings, dict):
        raise _bad(shown, "it is no mapping")
    if unknown := settings.keys() - {"tls_server_config", "basic_auth_users"}:
        raise _bad(shown, f"unknown: {', '.join(map(str, unknown))}")
    tls = settings.get("tls_server_config") or {}
    users = settings.get("basic_auth_users") or {}
    if not isinstance(tls, dict) or not isinstance(users, dict):
        raise _bad(shown, "tls_server_config and basic_auth_users are mappings")
    return WebConfig(
        tls=_context(shown, path.parent, tls) if tls else None,
        users={str(name): _hash(shown, name, value) for name, value in users.items()},
    )


def _context(shown: str, folder: Path, tls: dict[str, Any]) -> ssl.SSLContext:
    if unknown := tls.keys() - _TLS:
        raise _bad(shown, f"unknown in tls_server_config: {', '.join(map(str, unknown))}")
    client = str(tls.get("client_auth_type") or "NoClientCert")
    version = str(tls.get("min_version") or "TLS12")
    if client not in _CLIENTS or version not in _VERSIONS:
        raise _bad(shown, f"client_auth_type {client} or min_version {version} is not known")
    if not tls.get("cert_file") or not tls.get("key_file"):
        raise _bad(shown, "tls_server_config needs cert_file and key_file")
    if _CLIENTS[client] is not ssl.CERT_NONE and not tls.get("client_ca_file"):
        raise _bad(shown, f"client_auth_type {client} needs client_ca_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[version]
    try:
        context.load_cert_chain(folder / str(tls["cert_file"]), folder / str(tls["key_file"]))
        if tls.get("client_ca_file"):
            context.load_verify_locations(folder / str(tls["client_ca_file"]))
    except (OSError, ssl.SSLError) as error:
        raise _bad(shown, f"its certificate or key cannot be taken: {error}") from None
    context.verify_mode = _CLIENTS[client]
    return context


def _hash(shown: str, name: object, value: object) -> bytes:
    known = str(value).encode()
    try:
        if not known.startswith((b"$2a$", b"$2b$", b"$2y$")):
            raise ValueError
        _matches(b"", known)
    except ValueError:
        raise _bad(shown, f"the password of {name} is no bcrypt hash") from None
    return known


def _matches(password: bytes, known: bytes) -> bool:
    try:
        import bcrypt
    except ImportError:
        raise _not_installed("bcrypt") from None
    return bool(bcrypt.checkpw(password[:72], known))  # bcrypt's limit, in bytes


def _not_installed(what: str) -> CowtraceError:
    return CowtraceError(
        f"a web config needs {what}, which is not installed",
        hint="pip install 'cowtrace[prometheus]'; or apt install python3-yaml python3-bcrypt",
    )


def _bad(shown: str, why: str) -> CowtraceError:
    return CowtraceError(f"{shown} is no web config: {printable(why)}", hint=_HINT)
