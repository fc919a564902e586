"""Read the page-table entries of a process, from /proc/PID/maps and /proc/PID/pagemap.

Nothing is read of its memory: that would share or copy pages.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.frames.words import (
    CHUNK_BYTES,
    CHUNK_PAGES,
    EXCLUSIVE,
    FILE,
    PAGE_BYTES,
    PRESENT,
    WORD_BYTES,
    Chunk,
    normal,
)
from cowtrace.proc import has_memory

_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ...([ps]) \S+ \S+ (\S+) *(.*)")
_NO_PAGES = re.compile(rb"\[v(var|syscall)")  # of the kernel: it has no struct page for them
_SPARSE_BYTES = 64 << 20  # of a mapping; from here on the kernel is asked where there are pages
_MOST_SPARSE_BYTES = 1 << 40  # that are read of a process where it cannot tell: 3 s
_READ_PAGES = 1 << 18  # at once


class Gone(Exception):
    """The process has ended, or has no memory, as a thread of the kernel."""


def hidden(problem: str) -> CowtraceError:
    """The error that says what of /proc cannot be read."""
    hint = "run as root: it takes CAP_SYS_ADMIN and CAP_SYS_PTRACE"
    return CowtraceError(problem, hint=hint, exit_code=EXIT_NO_PLAN)


@dataclass(slots=True)
class AddressSpace:
    """What one process maps."""

    pid: int
    chunks: dict[int, bytes] = field(default_factory=dict)  # 512 words, by address // (512 pages)
    files: int = 0  # pages of files and of shared memory
    files_alone: int = 0  # of these, pages that no other process maps
    # Page numbers, first and after the last, and whether it is a private mapping of a file.
    mappings: list[tuple[int, int, bool]] = field(default_factory=list)
    unread: int = 0  # bytes of sparse mappings that would take too long to read
    # The name of each mapping, as maps has it; None: they were not asked for. Hostile.
    names: list[str] | None = None


def read(
    pid: int,
    zero: int,
    same: dict[bytes, Chunk],
    proc: Path = Path("/proc"),
    *,
    names: bool = False,
) -> AddressSpace:
    """Read a process. Raises Gone; PermissionError: it is another user's.

    `zero`: frame of the zero page. `same`: makes equal chunks of several processes one object.
    """
    folder = proc / str(pid)
    space = AddressSpace(pid, names=[] if names else None)
    try:
        # Line by line: a process can have many mappings, of files with long names.
        with (folder / "maps").open("rb") as maps, (folder / "pagemap").open("rb", 0) as pagemap:
            _fill(space, pagemap.fileno(), maps)
    except (FileNotFoundError, ProcessLookupError):
        raise Gone from None
    if not has_memory(pid, proc):
        raise Gone
    for at, read_entries in space.chunks.items():
        chunk = same.get(read_entries)
        if chunk is None:
            chunk = same[read_entries] = normal(read_entries, zero)
        space.chunks[at] = chunk.words
        space.files += chunk.files
        space.files_alone += chunk.files_alone
    return space


def _fill(space: AddressSpace, fd: int, maps: Iterable[bytes]) -> None:
    sparse = _Sparse(fd)
    for line in maps:
        found = _MAPPING.match(line)
        if not found or _NO_PAGES.match(found[5]):
            continue
        start, end, is_shared = int(found[1], 16), int(found[2], 16), found[3] == b"s"
        of_file = found[4] != b"0" and not is_shared
        space.mappings.append((start // PAGE_BYTES, end // PAGE_BYTES, of_file))
        if space.names is not None:
            space.names.append(found[5].decode(errors="backslashreplace"))
        parts = sparse.populated(start, end) if end - start > _SPARSE_BYTES else [(start, end)]
        for begin, until in parts:
            for first in range(begin // PAGE_BYTES, until // PAGE_BYTES, _READ_PAGES):
                pages = min(until // PAGE_BYTES - first, _READ_PAGES)
                data = os.pread(fd, pages * WORD_BYTES, first * WORD_BYTES)
                if len(data) < pages * WORD_BYTES:
                    raise Gone
                for at, piece in _pieces(first, data):
                    _add(space, at, piece, is_shared)
    space.unread = sparse.unread


def _pieces(first: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut at the borders of chunks: the first page, and its entries. Without empty ones."""
    last = first + len(data) // WORD_BYTES
    borders = range((first // CHUNK_PAGES + 1) * CHUNK_PAGES, last, CHUNK_PAGES)
    for begin, end in pairwise((first, *borders, last)):
        piece = data[(begin - first) * WORD_BYTES : (end - first) * WORD_BYTES]
        if any(piece[WORD_BYTES - 1 :: WORD_BYTES]):
            yield begin, piece


def _add(space: AddressSpace, first: int, piece: bytes, is_shared: bool) -> None:
    """Add entries of one chunk; those of files are only counted."""
    flags = piece[WORD_BYTES - 1 :: WORD_BYTES]
    # What is no file's in a shared mapping is memory of a device.
    left_out = {flag for flag in set(flags) if flag & FILE or is_shared}
    files = {flag: flags.count(flag) for flag in left_out if flag & FILE and flag & PRESENT}
    space.files += sum(files.values())
    space.files_alone += sum(pages for flag, pages in files.items() if flag & EXCLUSIVE)
    if not any(flag and flag not in left_out for flag in set(flags)):
        return
    if left_out - {0}:
        kept = bytearray(piece)
        for page, flag in enumerate(flags):
            if flag in left_out:
                kept[page * WORD_BYTES : (page + 1) * WORD_BYTES] = bytes(WORD_BYTES)
        piece = bytes(kept)
    number, inside = divmod(first, CHUNK_PAGES)
    if len(piece) < CHUNK_BYTES:
        chunk = bytearray(space.chunks.get(number, CHUNK_BYTES))
        chunk[inside * WORD_BYTES : inside * WORD_BYTES + len(piece)] = piece
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


PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
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
                found = fcntl.ioctl(self._fd, PAGEMAP_SCAN, scan)
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
