"""Tell the anonymous pages of a chunk of entries apart: of one process alone, shared, in swap."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from cowtrace.frames.entries import CHUNK_BYTES, CHUNK_PAGES, ENTRY_BYTES, EXCLUSIVE, FRAME, PRESENT

_KPF_ANON, _KPF_ZERO_PAGE = 1 << 12, 1 << 24  # include/uapi/linux/kernel-page-flags.h
# Types of swap entries: include/linux/swap.h has others above, for pages that move and for markers.
_SWAP_TYPE_BITS, _MOST_SWAP_FILES = 5, 23
_WORDS = struct.Struct(f"={CHUNK_PAGES}Q")
_KPAGECOUNT, _KPAGEFLAGS = Path("/proc/kpagecount"), Path("/proc/kpageflags")


@dataclass(frozen=True, slots=True)
class Pages:
    """What one chunk maps. Zero pages are left out."""

    exclusive: int  # pages that no other process maps
    shared: list[int]  # frames of the others
    swapped: list[int]  # places in swap, each with its type in the upper bits
    files: int  # pages of files, of a huge page: before 6.11, its entries do not say so


def pages_of(chunk: bytes, zero: int, *, one_space: bool = True) -> Pages:
    """`zero`: frame of the zero page. Not `one_space`: processes share their memory, as by vfork;
    then the kernel's mark "exclusive" means all of them.
    """
    flags = chunk[ENTRY_BYTES - 1 :: ENTRY_BYTES]
    words = memoryview(chunk).cast("Q")
    if _are_one_after_the_other(words) and all(flag & PRESENT for flag in set(flags)):
        return _huge_page(words[0] & FRAME, bool(flags[0] & EXCLUSIVE), one_space)
    exclusive = 0
    shared: list[int] = []
    swapped: list[int] = []
    for flag in set(flags):
        if flag & PRESENT and flag & EXCLUSIVE and one_space:
            exclusive += flags.count(flag)
        elif flag & PRESENT:
            shared += [word & FRAME for word in words if word >> 56 == flag]
        elif flag:
            swapped += _in_swap([word & FRAME for word in words if word >> 56 == flag])
    if zero in shared:
        shared = [frame for frame in shared if frame != zero]
    return Pages(exclusive, shared, swapped, 0)


def _are_one_after_the_other(words: memoryview) -> bool:
    first = words[0] & FRAME
    last = first + CHUNK_PAGES - 1
    return words[-1] & FRAME == last and all(
        word & FRAME == frame for word, frame in zip(words, range(first, last), strict=False)
    )


def _in_swap(places: list[int]) -> list[int]:
    found = ((place & (1 << _SWAP_TYPE_BITS) - 1, place >> _SWAP_TYPE_BITS) for place in places)
    return [kind << 50 | offset for kind, offset in found if kind < _MOST_SWAP_FILES]


def _huge_page(first: int, marked_exclusive: bool, one_space: bool) -> Pages:
    """The pages of one entry for all, or of a chunk that looks so.

    Each page's own count of mappings decides: before "fs/proc/task_mmu: properly detect
    PM_MMAP_EXCLUSIVE per page of PMD-mapped THPs" (6.11), the mark is that of the first page.
    Where the counts are a mean of the huge page, the mark is right.
    """
    flags = mapped_words(_KPAGEFLAGS, first, 1)[0]
    if flags & _KPF_ZERO_PAGE:
        return Pages(0, [], [], 0)
    if not flags & _KPF_ANON:
        return Pages(0, [], [], CHUNK_PAGES)
    counts = mapped_words(_KPAGECOUNT, first, CHUNK_PAGES)
    shared = [
        first + page
        for page, count in enumerate(counts)
        if count != 1 or not one_space or (counts[0] == 1 and not marked_exclusive)
    ]
    return Pages(CHUNK_PAGES - len(shared), shared, [], 0)


def mapped_words(path: Path, first: int, count: int) -> tuple[int, ...]:
    """Words of /proc/kpagecount (mappings of a page) or /proc/kpageflags, from a frame on."""
    with path.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), count * ENTRY_BYTES, first * ENTRY_BYTES)
    if len(data) == CHUNK_BYTES:
        return _WORDS.unpack(data)
    return struct.unpack(f"={len(data) // ENTRY_BYTES}Q", data)


def mapped_times(frame: int) -> int:
    """How often all processes together map it; of large folios, some kernels know a mean only."""
    return mapped_words(_KPAGECOUNT, frame, 1)[0]
