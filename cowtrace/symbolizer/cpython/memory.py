"""Read numbers and C strings out of a process. Nothing here trusts an address."""

from __future__ import annotations

import struct
from collections.abc import Callable

Read = Callable[[int, int], bytes]

_LOWEST = 4096  # NULL, and what lies in front of it
_HIGHEST = 1 << 56  # addresses of user space, with five levels of page tables
_MOST_BYTES = 1 << 20  # of one read
WORD_BYTES = 8


class UnreadableError(Exception):
    """Memory that cannot be read, or that does not have the expected content."""


class Memory:
    """The memory of one process. Methods raise UnreadableError."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def bytes_at(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes."""
        data = self.up_to(address, size)
        if len(data) != size:
            raise UnreadableError
        return data

    def up_to(self, address: int, size: int) -> bytes:
        """At most `size` bytes: what is readable from there on."""
        if not (_LOWEST <= address < _HIGHEST and 0 <= size <= _MOST_BYTES):
            raise UnreadableError
        try:
            return bytes(self._read(address, size))[:size]
        except OSError:
            raise UnreadableError from None

    def whole_words(self, address: int, size: int) -> bytes:
        """The same in words of 8 bytes; nothing, where none can be read. Raises nothing."""
        try:
            data = self.up_to(address, size)
        except UnreadableError:
            return b""
        return data[: len(data) // WORD_BYTES * WORD_BYTES]

    def words(self, address: int, size: int) -> tuple[int, ...]:
        """As whole_words(), unpacked."""
        data = self.whole_words(address, size)
        return struct.unpack(f"<{len(data) // WORD_BYTES}Q", data)

    def word(self, address: int) -> int:
        """A pointer, or another unsigned number of 64 bits."""
        return int.from_bytes(self.bytes_at(address, WORD_BYTES), "little")

    def signed(self, address: int) -> int:
        """A Py_ssize_t."""
        return int.from_bytes(self.bytes_at(address, WORD_BYTES), "little", signed=True)

    def int32(self, address: int) -> int:
        """An int of C."""
        return int.from_bytes(self.bytes_at(address, 4), "little", signed=True)

    def c_string(self, address: int, limit: int) -> str:
        """Up to its end, or to `limit` bytes."""
        data = self.up_to(address, limit).partition(b"\0")[0]
        return data.decode(errors="backslashreplace")
