"""Put the entries of /proc/PID/pagemap into one form for all kernels: a word for each page.

A word is 0 (no page, or a file's), ZERO_PAGE, or PRESENT with a frame number, and EXCLUSIVE if no
other process maps that page; or SWAPPED with a place in swap. The two are in the highest byte.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = mmap.PAGESIZE
WORD_BYTES = 8
CHUNK_PAGES = 512
CHUNK_BYTES = CHUNK_PAGES * WORD_BYTES
FRAME = (1 << 55) - 1
ZERO_PAGE = 1
# In the highest byte of an entry: Documentation/admin-guide/mm/pagemap.rst
PRESENT, SWAPPED, FILE, EXCLUSIVE = 0x80, 0x40, 0x20, 0x01
# include/uapi/linux/kernel-page-flags.h
_KPF_ANON, _KPF_KSM, _KPF_THP, _KPF_ZERO_PAGE = 1 << 12, 1 << 21, 1 << 22, 1 << 24
# Types of swap entries: include/linux/swap.h has others above, for pages that move and for markers.
_SWAP_TYPE_BITS, _MOST_SWAP_FILES = 5, 23
_WORDS = struct.Struct(f"={CHUNK_PAGES}Q")
_KEPT = int.from_bytes(
    struct.pack("=Q", FRAME | (PRESENT | SWAPPED | EXCLUSIVE) << 56) * CHUNK_PAGES, "little"
)
_UNMARKED = ~int.from_bytes(struct.pack("=Q", EXCLUSIVE << 56) * CHUNK_PAGES, "little")
_KSM_PAGES = Path("/sys/kernel/mm/ksm/pages_shared")
_KPAGECOUNT, _KPAGEFLAGS = Path("/proc/kpagecount"), Path("/proc/kpageflags")


@dataclass(frozen=True, slots=True)
class Chunk:
    """512 words. `files`: pages of files among them, `files_alone` of these exclusive: those of a
    huge page, whose entries do not say so before Linux 6.11."""

    words: bytes
    files: int = 0
    files_alone: int = 0


@dataclass(frozen=True, slots=True)
class Pages:
    """What one chunk maps. Zero pages are left out."""

    words: bytes  # without the mark "exclusive" where it means nothing
    exclusive: int  # pages that no other process maps
    swapped: list[int]  # places in swap, each with its type in the upper bits


def normal(entries: bytes, zero: int) -> Chunk:
    """512 entries as words. `zero`: frame of the zero page."""
    flags = set(entries[WORD_BYTES - 1 :: WORD_BYTES])
    found = memoryview(entries).cast("Q")
    if all(flag & PRESENT for flag in flags) and _are_one_after_the_other(found):
        return _huge_page(found[0] & FRAME, bool(found[0] >> 56 & EXCLUSIVE))
    kept = (int.from_bytes(entries, "little") & _KEPT).to_bytes(CHUNK_BYTES, "little")
    of_zero = PRESENT << 56 | zero
    if struct.pack("=Q", of_zero) in kept:
        words = (ZERO_PAGE if word == of_zero else word for word in _WORDS.unpack(kept))
        kept = _WORDS.pack(*words)
    if any(flag & SWAPPED for flag in flags):
        kept = _WORDS.pack(*map(_without_markers, _WORDS.unpack(kept)))
    return Chunk(kept)


def pages_of(words: bytes, *, one_space: bool = True) -> Pages:
    """Not `one_space`: processes share their memory, as by vfork; then the kernel's mark
    "exclusive" means all of them.
    """
    flags = words[WORD_BYTES - 1 :: WORD_BYTES]
    exclusive = flags.count(PRESENT | EXCLUSIVE)
    if exclusive and not one_space:
        exclusive = 0
        words = (int.from_bytes(words, "little") & _UNMARKED).to_bytes(CHUNK_BYTES, "little")
    swapped: list[int] = []
    if SWAPPED in flags:
        view = memoryview(words).cast("Q")
        swapped = [_place(word & FRAME) for word in view if word >> 56 == SWAPPED]
    return Pages(words, exclusive, swapped)


def shared_frames(words: bytes) -> list[int]:
    """Frames of the pages that other processes map, too."""
    return [word & FRAME for word in memoryview(words).cast("Q") if word >> 56 == PRESENT]


def is_huge_page(words: bytes) -> bool:
    """Whether they are the pages of a transparent huge page, or of 512 pages of one."""
    view = memoryview(words).cast("Q")
    if not view[0] >> 56 & PRESENT or not _are_one_after_the_other(view):
        return False
    return any(flags & _KPF_THP for flags in mapped_words(_KPAGEFLAGS, view[0] & FRAME, 1))


def mapped_times(frame: int) -> int:
    """How often all processes together map it; of large folios, some kernels know a mean only."""
    return mapped_words(_KPAGECOUNT, frame, 1)[0]


def is_merged(frame: int) -> bool:
    """Whether KSM merged it, where is_merged_known()."""
    return bool(mapped_words(_KPAGEFLAGS, frame, 1)[0] & _KPF_KSM)


def is_merged_known() -> bool:
    """Whether KSM has merged pages, and the kernel tells which: 6.12 sets this flag for all
    anonymous pages. By a page of our own.
    """
    try:
        if not int(_KSM_PAGES.read_text()):
            return False
    except OSError:
        return False
    with mmap.mmap(-1, PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[0] = 1
        return not is_merged(_frame_of(page))


def mapped_words(path: Path, first: int, count: int) -> tuple[int, ...]:
    """Words of /proc/kpagecount (mappings of a page) or /proc/kpageflags, from a frame on."""
    with path.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), count * WORD_BYTES, first * WORD_BYTES)
    if len(data) == CHUNK_BYTES:
        return _WORDS.unpack(data)
    return struct.unpack(f"={len(data) // WORD_BYTES}Q", data)


def zero_frame() -> int | None:
    """The frame of the zero page, found by reading an untouched page; None when it is hidden.

    The kernel shows frame numbers only to CAP_SYS_ADMIN, and 0 to others.
    """
    with mmap.mmap(-1, PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        _ = page[0]  # a read fault: maps the zero page
        return _frame_of(page) or None


def _frame_of(page: mmap.mmap) -> int:
    at = address_of(page) // PAGE_BYTES * WORD_BYTES
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        (entry,) = struct.unpack("=Q", os.pread(pagemap.fileno(), WORD_BYTES, at))
    return int(entry) & FRAME


def address_of(mapping: mmap.mmap) -> int:
    """The address where it begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))


def _are_one_after_the_other(words: memoryview) -> bool:
    first = words[0] & FRAME
    last = first + CHUNK_PAGES - 1
    return words[-1] & FRAME == last and all(
        word & FRAME == frame for word, frame in zip(words, range(first, last), strict=False)
    )


def _huge_page(first: int, marked_exclusive: bool) -> Chunk:
    """The pages of one entry for all, or of a chunk that looks so.

    Each page's own count of mappings decides: before "fs/proc/task_mmu: properly detect
    PM_MMAP_EXCLUSIVE per page of PMD-mapped THPs" (6.11), the mark is that of the first page.
    Where the counts are a mean of the huge page, all alike, the mark is right.
    """
    counts = mapped_words(_KPAGECOUNT, first, CHUNK_PAGES)
    if len(counts) < CHUNK_PAGES:  # of a device, beyond all memory
        return Chunk(bytes(CHUNK_BYTES))
    flags = mapped_words(_KPAGEFLAGS, first, 1)[0]
    if flags & _KPF_ZERO_PAGE:
        return Chunk(_WORDS.pack(*[ZERO_PAGE] * CHUNK_PAGES))
    if not flags & _KPF_ANON:
        return Chunk(bytes(CHUNK_BYTES), CHUNK_PAGES, counts.count(1))
    mean = not marked_exclusive and set(counts) == {1}
    present, alone = PRESENT << 56, (PRESENT | EXCLUSIVE) << 56
    return Chunk(_WORDS.pack(*(
        (alone if count == 1 and not mean else present) | frame
        for frame, count in enumerate(counts, first)
    )))  # fmt: skip


def _without_markers(word: int) -> int:
    is_marker = word >> 56 & SWAPPED and word & (1 << _SWAP_TYPE_BITS) - 1 >= _MOST_SWAP_FILES
    return 0 if is_marker else word


def _place(entry: int) -> int:
    kind, offset = entry & (1 << _SWAP_TYPE_BITS) - 1, entry >> _SWAP_TYPE_BITS
    return kind << 50 | offset
