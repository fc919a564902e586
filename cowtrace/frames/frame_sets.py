"""Sets of page frames, one for each process, as bits: they are counted and joined word by word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

_BLOCK_BITS = 15  # frames of a block: 4 KiB of bits
_BLOCK_MASK = (1 << _BLOCK_BITS) - 1
_BLOCK_BYTES = 1 << _BLOCK_BITS - 3
_BITS = tuple(1 << bit for bit in range(8))

_Blocks = dict[int, bytearray]


class FrameSets:
    """`count` sets of frame numbers, by index. Blocks below 0 are the caller's: see add_bits()."""

    def __init__(self, count: int) -> None:
        self._sets: list[dict[int, int]] = [{} for _ in range(count)]  # block -> bits

    def add(self, holders: Iterable[int], frames: Iterable[int]) -> None:
        """Add these frames to the sets with these indices."""
        blocks: _Blocks = {}
        for frame in frames:
            block = blocks.get(frame >> _BLOCK_BITS)
            if block is None:
                block = blocks[frame >> _BLOCK_BITS] = bytearray(_BLOCK_BYTES)
            block[(frame & _BLOCK_MASK) >> 3] |= _BITS[frame & 7]
        numbers = {at: int.from_bytes(block, "little") for at, block in blocks.items()}
        for holder in holders:
            held = self._sets[holder]
            for at, number in numbers.items():
                held[at] = held.get(at, 0) | number

    def add_bits(self, holder: int, block: int, bits: int) -> None:
        """Add members that the caller names by a block and a bit."""
        held = self._sets[holder]
        held[block] = held.get(block, 0) | bits

    def take_bits(self, holder: int, block: int, bits: int) -> None:
        """Take some away."""
        held = self._sets[holder]
        held[block] = held.get(block, 0) & ~bits

    def size(self, index: int) -> int:
        """How many frames are in one set."""
        return sum(bits.bit_count() for bits in self._sets[index].values())

    def common(self, one: int, other: int) -> int:
        """How many frames are in both sets."""
        theirs = self._sets[other]
        return sum(
            (bits & theirs[at]).bit_count() for at, bits in self._sets[one].items() if at in theirs
        )

    def alone(self) -> list[int]:
        """For each set, how many of its frames are in no other."""
        alone = [0] * len(self._sets)
        for members in self._by_block():
            once = seen = 0
            for _, bits in members:
                once = (once & ~bits) | (bits & ~seen)
                seen |= bits
            for index, bits in members:
                alone[index] += (bits & once).bit_count()
        return alone

    def bits(self, index: int, block: int) -> int:
        """Of one set, what it has of a block."""
        return self._sets[index].get(block, 0)

    def several(self, block: int) -> int:
        """What is in more than one set, of a block."""
        once = seen = 0
        for held in self._sets:
            bits = held.get(block, 0)
            once = (once & ~bits) | (bits & ~seen)
            seen |= bits
        return seen & ~once

    def by_holders(self) -> list[int]:
        """How many frames are in exactly k sets, by k - 1."""
        counts = [0] * len(self._sets)
        for members in self._by_block():
            for k, bits in enumerate(_exactly([bits for _, bits in members])):
                counts[k] += bits.bit_count()
        return counts

    def _by_block(self) -> Iterator[list[tuple[int, int]]]:
        """For each block, the sets with frames in it: index and bits."""
        for at in set().union(*self._sets):
            yield [(i, held[at]) for i, held in enumerate(self._sets) if at in held]


def block_of(frame: int) -> tuple[int, int]:
    """The block that has this frame, and its bit."""
    return frame >> _BLOCK_BITS, frame & _BLOCK_MASK


def repeated(frames: Iterable[int]) -> Counter[int]:
    """The frames that come several times, and how many times more than once."""
    seen: _Blocks = {}
    again: Counter[int] = Counter()
    for frame in frames:
        block = seen.get(frame >> _BLOCK_BITS)
        if block is None:
            block = seen[frame >> _BLOCK_BITS] = bytearray(_BLOCK_BYTES)
        at, bit = (frame & _BLOCK_MASK) >> 3, _BITS[frame & 7]
        if block[at] & bit:
            again[frame] += 1
        block[at] |= bit
    return again


def _exactly(sets: Sequence[int]) -> list[int]:
    """The bits that are in exactly 1, 2... of the sets."""
    exactly = [-1]  # in none: all, before the first
    for bits in sets:
        exactly = [
            (same & ~bits) | (fewer & bits)
            for same, fewer in zip([*exactly, 0], [0, *exactly], strict=True)
        ]
    return exactly[1:]
