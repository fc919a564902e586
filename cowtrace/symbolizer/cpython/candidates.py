"""Find the words of memory at which an object can begin: most of the time of a search."""

from __future__ import annotations

from itertools import compress

_ZERO = bytes([1] + [0] * 255)  # tables for bytes.translate(): 1 for the bytes that are looked for
_NOT_ZERO = bytes([0] + [1] * 255)
_ALIGNED = bytes(not byte & 7 for byte in range(256))


def possible_objects(memory: bytes, *, splits_counts: bool) -> list[int]:
    """The indexes of words with a pointer behind them, from the last on. `memory`: whole words.

    The words are reference counts: not 0 in their lower 32 bits, and below 1 << 40 unless a count
    has 32 bits alone. The pointers are aligned, at least 65,536 and below 1 << 56. All words are
    compared at once: byte 0 of each, byte 1...
    """
    count = len(memory) // 8
    parts = [memory[at::8] for at in range(8)]
    counts = int.from_bytes(_either(parts[:4]).translate(_NOT_ZERO), "little")
    if not splits_counts:
        counts &= int.from_bytes(_either(parts[5:]).translate(_ZERO), "little")
    high = _either(parts[2:7]).translate(_NOT_ZERO)
    pointers = _all(parts[0].translate(_ALIGNED), high, parts[7].translate(_ZERO))
    # The byte of each word moves to that of the word in front of it.
    found = pointers >> 8 & counts
    return [*compress(range(count), found.to_bytes(count, "little"))][::-1]


def _either(parts: list[bytes]) -> bytes:
    """Bit by bit."""
    made = 0
    for part in parts:
        made |= int.from_bytes(part, "little")
    return made.to_bytes(len(parts[0]), "little")


def _all(first: bytes, *others: bytes) -> int:
    """Bit by bit."""
    made = int.from_bytes(first, "little")
    for other in others:
        made &= int.from_bytes(other, "little")
    return made
