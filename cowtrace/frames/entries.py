"""Read the page-table entries of a process, from /proc/PID/maps and /proc/PID/pagemap.

Nothing is read of its memory: that would share or copy pages.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from cowtrace.proc import has_memory

PAGE_BYTES = mmap.PAGESIZE
ENTRY_BYTES = 8
CHUNK_PAGES = 512
CHUNK_BYTES = CHUNK_PAGES * ENTRY_BYTES
FRAME = (1 << 55) - 1  # of a present entry; of one in swap: type and offset
# In the highest byte of an entry: Documentation/admin-guide/mm/pagemap.rst
PRESENT, SWAPPED, FILE, EXCLUSIVE = 0x80, 0x40, 0x20, 0x01
_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ...([ps]) \S+ \S+ \S+ *(.*)")
_NO_PAGES = re.compile(rb"\[v(var|syscall)")  # of the kernel: it has no struct page for them
_SPARSE_BYTES = 64 << 20  # of a mapping; from here on the kernel is asked where there are pages
_MOST_SPARSE_BYTES = 1 << 40  # that are read of a process where it cannot tell: 3 s
_READ_PAGES = 1 << 18  # at once


class Gone(Exception):
    """The process has ended, or has no memory, as a thread of the kernel."""


@dataclass(slots=True)
class AddressSpace:
    """What one process maps, apart from pages of files."""

    pid: int
    # By address // (512 pages): 512 words, as pagemap has them; 0: none, or a page of a file.
    chunks: dict[int, bytes] = field(default_factory=dict)
    files: int = 0  # pages of files and of shared memory
    unread: int = 0  # bytes of sparse mappings that would take too long to read


def read(pid: int, same: dict[bytes, bytes], proc: Path = Path("/proc")) -> AddressSpace:
    """Read a process. Raises Gone; PermissionError: it is another user's.

    `same`: makes equal chunks of several processes one object.
    """
    folder = proc / str(pid)
    space = AddressSpace(pid)
    try:
        # Line by line: a process can have many mappings, of files with long names.
        with (folder / "maps").open("rb") as maps, (folder / "pagemap").open("rb", 0) as pagemap:
            _fill(space, pagemap.fileno(), maps)
    except (FileNotFoundError, ProcessLookupError):
        raise Gone from None
    if not has_memory(pid, proc):
        raise Gone
    space.chunks = {at: same.setdefault(words, words) for at, words in space.chunks.items()}
    return space


def _fill(space: AddressSpace, fd: int, maps: Iterable[bytes]) -> None:
    sparse = _Sparse(fd)
    for line in maps:
        found = _MAPPING.match(line)
        if not found or _NO_PAGES.match(found[4]):
            continue
        start, end, is_shared = int(found[1], 16), int(found[2], 16), found[3] == b"s"
        parts = sparse.populated(start, end) if end - start > _SPARSE_BYTES else [(start, end)]
        for begin, until in parts:
            for first in range(begin // PAGE_BYTES, until // PAGE_BYTES, _READ_PAGES):
                pages = min(until // PAGE_BYTES - first, _READ_PAGES)
                data = os.pread(fd, pages * ENTRY_BYTES, first * ENTRY_BYTES)
                if len(data) < pages * ENTRY_BYTES:
                    raise Gone
                for at, piece in _pieces(first, data):
                    _add(space, at, piece, is_shared)
    space.unread = sparse.unread


def _pieces(first: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut at the borders of chunks: the first page, and its entries. Without empty ones."""
    last = first + len(data) // ENTRY_BYTES
    borders = range((first // CHUNK_PAGES + 1) * CHUNK_PAGES, last, CHUNK_PAGES)
    for begin, end in pairwise((first, *borders, last)):
        piece = data[(begin - first) * ENTRY_BYTES : (end - first) * ENTRY_BYTES]
        if any(piece[ENTRY_BYTES - 1 :: ENTRY_BYTES]):
            yield begin, piece


def _add(space: AddressSpace, first: int, piece: bytes, is_shared: bool) -> None:
    """Add entries of one chunk; those of files are only counted."""
    flags = piece[ENTRY_BYTES - 1 :: ENTRY_BYTES]
    # What is no file's in a shared mapping is memory of a device.
    left_out = {flag for flag in set(flags) if flag & FILE or is_shared}
    space.files += sum(flags.count(flag) for flag in left_out if flag & FILE and flag & PRESENT)
    if not any(flag and flag not in left_out for flag in set(flags)):
        return
    if left_out - {0}:
        kept = bytearray(piece)
        for page, flag in enumerate(flags):
            if flag in left_out:
                kept[page * ENTRY_BYTES : (page + 1) * ENTRY_BYTES] = bytes(ENTRY_BYTES)
        piece = bytes(kept)
    number, inside = divmod(first, CHUNK_PAGES)
    if len(piece) < CHUNK_BYTES:
        chunk = bytearray(space.chunks.get(number, CHUNK_BYTES))
        chunk[inside * ENTRY_BYTES : inside * ENTRY_BYTES + len(piece)] = piece
        piece = bytes(chunk)
    space.chunks[number] = piece


class _Scan(ctypes.Structure):
    """struct pm_scan_arg, include/uapi/linux/fs.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages"),
            *("category_inverted", "category_mask", "category_anyof_mask", "return_mask"),
        )
    ]


_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_IS_PRESENT, _IS_SWAPPED = 1 << 3, 1 << 4
_REGIONS = 1024
_REGION_WORDS = 3  # struct page_region: start, end, categories


class _Sparse:
    """Finds out which parts of a mapping have pages, in memory or in swap.

    Where the kernel cannot tell, before "fs/proc/task_mmu: implement IOCTL to get and optionally
    clear info about PTEs" (6.7), a mapping is read whole, unless that takes too long.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._left = _MOST_SPARSE_BYTES
        self.unread = 0  # bytes

    def populated(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Parts with pages, and some without; by address."""
        near = CHUNK_PAGES * PAGE_BYTES
        begin = until = start
        for region, region_end in self._regions(start, end):
            if region - until > near:  # else reading what lies between takes less than a call
                yield begin, until
                begin = region
            until = region_end
        yield begin, until

    def _regions(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        regions = (ctypes.c_uint64 * (_REGIONS * _REGION_WORDS))()
        while start < end:
            scan = _Scan(
                size=ctypes.sizeof(_Scan), start=start, end=end,
                vec=ctypes.addressof(regions), vec_len=_REGIONS,
                category_anyof_mask=_IS_PRESENT | _IS_SWAPPED,
                return_mask=_IS_PRESENT | _IS_SWAPPED,
            )  # fmt: skip
            found = -1
            with suppress(OSError):
                found = fcntl.ioctl(self._fd, _PAGEMAP_SCAN, scan)
            if found < 0:
                yield from self._whole(start, end)
                return
            for at in range(0, found * _REGION_WORDS, _REGION_WORDS):
                yield regions[at], regions[at + 1]
            if not found:
                return
            # walk_end can be that of an earlier part of this walk: pagemap_scan_flush_buffer().
            start = max(scan.walk_end, regions[(found - 1) * _REGION_WORDS + 1])

    def _whole(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        if end - start > self._left:
            self.unread += end - start
            return
        self._left -= end - start
        yield start, end
