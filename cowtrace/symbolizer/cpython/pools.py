"""Parse the header of a pool of CPython's allocator (Objects/obmalloc.c)."""

from __future__ import annotations

from dataclasses import dataclass

_ALIGNMENT, POOL_HEADER_BYTES, _CLASSES = 16, 48, 64  # as in bpf/written.h


@dataclass(frozen=True, slots=True)
class Pool:
    """The header of a pool, which has the size of its blocks."""

    start: int
    block_bytes: int
    free: int  # address of the first free block
    next_offset: int  # of the first block that was never used

    @staticmethod
    def of(header: tuple[int, ...], start: int, pool_bytes: int) -> Pool | None:
        """From its first words. None: these are no header of a pool."""
        if len(header) < 6:
            return None
        size_class, last = header[4] >> 32, header[5] >> 32
        block_bytes = (size_class + 1) * _ALIGNMENT
        if size_class >= _CLASSES or last != pool_bytes - block_bytes:
            return None
        return Pool(start, block_bytes, header[1], header[5] & 0xFFFFFFFF)

    def is_link(self, word: int) -> bool:
        """Whether a word points to a block of this pool, as the first word of a free block does."""
        offset = word - self.start - POOL_HEADER_BYTES
        return 0 <= offset < 1 << 14 and offset % self.block_bytes == 0
