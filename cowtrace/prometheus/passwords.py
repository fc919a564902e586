"""Check names and passwords against bcrypt hashes; a wrong name takes as long as a wrong password.

A password that was right once is remembered, so that each scrape need not pay for bcrypt. One that
was wrong never is: memory stays bounded by the number of users.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from typing import NamedTuple

from cowtrace.errors import CowtraceError

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
_MOST_BYTES = 72  # bcrypt ignores the rest


class Credentials(NamedTuple):
    """What a client says of itself."""

    name: str
    password: bytes


def credentials(authorization: str | None) -> Credentials | None:
    """Parse the value of an Authorization header; None: it is not basic authentication."""
    kind, _, encoded = (authorization or "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(encoded, validate=True).partition(b":")
        return Credentials(name.decode(), password)
    except ValueError:
        return None


def is_hash(value: object) -> bool:
    """True for a bcrypt hash."""
    return isinstance(value, str) and _BCRYPT.fullmatch(value) is not None


class Passwords:
    """The users of a web config. Without any, everybody is let in."""

    def __init__(self, hashes: dict[str, str]) -> None:
        """Raise CowtraceError if there are users, but not the library that checks them."""
        self._hashes = {name: known.encode() for name, known in hashes.items()}
        self._order = [*self._hashes.values()]
        self._secret = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}  # by name, the digest of a right password
        if hashes:
            try:
                import bcrypt
            except ImportError:
                raise not_installed("bcrypt") from None
            self._matches = bcrypt.checkpw

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def remembers(self, given: Credentials) -> bool:
        """True if these were right before; fast."""
        return hmac.compare_digest(self._right.get(given.name, b""), self._digest(given))

    def check(self, given: Credentials) -> bool:
        """True if they are right; takes the time of one bcrypt, whatever is given."""
        digest = self._digest(given)
        known = self._hashes.get(given.name)
        # Users may have hashes of different cost: each unknown name always gets the same one's.
        other = self._order[int.from_bytes(self._digest(Credentials(given.name, b""))) % len(self)]
        try:
            matches = self._matches(given.password[:_MOST_BYTES], known or other)
        except ValueError:  # a NUL byte, for some versions of bcrypt
            return False
        if known is None or not matches:
            return False
        self._right[given.name] = digest
        return True

    def __len__(self) -> int:
        return len(self._hashes)

    def _digest(self, given: Credentials) -> bytes:
        text = given.name.encode() + b":" + given.password
        return hmac.digest(self._secret, text, "sha256")


def not_installed(what: str) -> CowtraceError:
    """The error of a web config whose library is missing."""
    return CowtraceError(
        f"a web config needs {what}, which is not installed",
        hint="pip install 'cowtrace[prometheus]'; or apt install python3-yaml python3-bcrypt",
    )
