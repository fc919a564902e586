"""Find the pages that processes map at the same address, by whole chunks: those that fork shared.

A page is then named by its place, and most need no look at each process. 512 words are one number
here, in which word by word is computed at once; a set of places in a chunk is 512 bits.
"""

from __future__ import annotations

import struct
from array import array

from cowtrace.frames.words import CHUNK_BYTES, CHUNK_PAGES, FRAME, PRESENT, WORD_BYTES

_IS_SHARED = bytes(ord("1") if flag == PRESENT else ord("0") for flag in range(256))
_IS_TOP = bytes(ord("1") if flag & 0x80 else ord("0") for flag in range(256))
_TOPS = int.from_bytes(struct.pack("=Q", 1 << 63) * CHUNK_PAGES, "little")
_LOWS = int.from_bytes(struct.pack("=Q", (1 << 63) - 1) * CHUNK_PAGES, "little")
ALL = (1 << CHUNK_PAGES) - 1


class Reference:
    """For one chunk of addresses, the shared page at each place that was seen first."""

    def __init__(self) -> None:
        self._words = array("Q", bytes(CHUNK_BYTES))
        self._number = 0
        self._places = 0
        self._known: dict[bytes, tuple[int, list[int]]] = {}

    def add(self, words: bytes) -> tuple[int, list[int]]:
        """The places where this chunk has the same shared page, and the frames of its others."""
        known = self._known.get(words)
        if known is None:
            known = self._known[words] = self._added(words)
        return known

    def frames(self) -> list[tuple[int, int]]:
        """Place and frame of each page."""
        return [(at, self._words[at] & FRAME) for at in places(self._places)]

    def _added(self, words: bytes) -> tuple[int, list[int]]:
        shared = int(words[WORD_BYTES - 1 :: WORD_BYTES][::-1].translate(_IS_SHARED), 2)
        view = memoryview(words).cast("Q")
        if new := shared & ~self._places:
            for at in places(new):
                self._words[at] = view[at]
            self._places |= new
            self._number = int.from_bytes(self._words.tobytes(), "little")
        apart = int.from_bytes(words, "little") ^ self._number
        # The top bit of each word that is not 0: adding to its other bits sets it.
        apart = (((apart & _LOWS) + _LOWS) | apart) & _TOPS
        tops = apart.to_bytes(CHUNK_BYTES, "little")[WORD_BYTES - 1 :: WORD_BYTES]
        same = shared & ~int(tops[::-1].translate(_IS_TOP), 2)
        return same, [view[at] & FRAME for at in places(shared & ~same)]


def places(bits: int) -> list[int]:
    """The places that are in a set."""
    if bits == ALL:
        return [*range(CHUNK_PAGES)]
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found
