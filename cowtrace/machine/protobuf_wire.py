"""Encode the fields of protobuf messages: varints, and what has a length."""

from __future__ import annotations

from collections.abc import Iterable

_VARINT, _LENGTH = 0, 2  # wire types


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first. A negative number is one of 64 bits."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def number(field: int, value: int) -> bytes:
    """An int64, uint64 or bool; the default, 0, is left out."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def data(field: int, content: bytes) -> bytes:
    """A message, a string or bytes."""
    return varint(field << 3 | _LENGTH) + varint(len(content)) + content


def packed(field: int, values: Iterable[int]) -> bytes:
    """A repeated int64 or uint64."""
    return data(field, b"".join(map(varint, values)))
