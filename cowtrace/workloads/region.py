"""The memory that workloads write: one mapping at a fixed address, stored to page by page."""

from __future__ import annotations

import ctypes
import enum
import mmap
import os
from dataclasses import dataclass, field
from typing import IO

from cowtrace.errors import CowtraceError

PAGE_BYTES = mmap.PAGESIZE

# Far below where position-independent programs, the heap, libraries and the stack are put on
# x86-64 and on arm64, however they are randomised; 16 TiB, so that any memory fits.
REGION_START = 0x2000_0000_0000
REGION_END = 0x3000_0000_0000

FILE_BYTE = 0x66  # what every byte of a region's file is

_MAP_FIXED_NOREPLACE = 0x100000  # Linux 4.17; not in Python's mmap module
_MADV_NOHUGEPAGE = 15
_PR_SET_THP_DISABLE = 41
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Backing(enum.Enum):
    """What the region maps."""

    ANONYMOUS = "anonymous"
    SHARED_ANONYMOUS = "shared-anonymous"
    PRIVATE_FILE = "private-file"

    @property
    def shared(self) -> bool:
        return self is Backing.SHARED_ANONYMOUS

    @property
    def of_file(self) -> bool:
        return self is Backing.PRIVATE_FILE


@dataclass(frozen=True)
class Region:
    """A mapped region. Its pages are stored to and loaded from in user mode, never by a call."""

    pages: int
    backing: Backing
    view: memoryview = field(repr=False)
    file: IO[bytes] | None = field(repr=False)

    @property
    def size_bytes(self) -> int:
        return self.pages * PAGE_BYTES

    def store(self, value: int) -> None:
        """Write the first byte of each page, in order, once."""
        self.view[::PAGE_BYTES] = bytes([value]) * self.pages

    def fill(self, value: int) -> None:
        """Write every byte, in order. Releases the GIL, so that threads can race."""
        ctypes.memset(REGION_START, value, self.size_bytes)

    def load(self) -> bytes:
        """Read the first byte of each page, in order."""
        return bytes(self.view[::PAGE_BYTES])


def map_region(pages: int, backing: Backing) -> Region:
    """Map `pages` pages at REGION_START, none of them touched, for 4 KiB-wise faults.

    Raises CowtraceError when the kernel refuses.
    """
    _libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)  # huge pages would fault for many at once
    file = _file(pages) if backing.of_file else None
    flags = _MAP_FIXED_NOREPLACE | (mmap.MAP_SHARED if backing.shared else mmap.MAP_PRIVATE)
    size = pages * PAGE_BYTES
    at = _libc.mmap(
        REGION_START,
        size,
        mmap.PROT_READ | mmap.PROT_WRITE,
        flags if file else flags | mmap.MAP_ANONYMOUS,
        file.fileno() if file else -1,
        0,
    )
    if at != REGION_START:
        why = os.strerror(ctypes.get_errno()) if at == _MAP_FAILED else "mapped elsewhere"
        raise CowtraceError(
            f"cannot map {pages} pages at {REGION_START:#x}: {why}",
            hint="take fewer pages: --pages",
        )
    _libc.madvise(REGION_START, size, _MADV_NOHUGEPAGE)  # refused where the kernel has none
    buffer = (ctypes.c_ubyte * size).from_address(REGION_START)
    return Region(pages, backing, memoryview(buffer).cast("B"), file)


def touch_scratch(pages: int = 64) -> None:
    """Touch new pages outside the region, so that the region's pages leave this CPU's batches.

    A page that was just allocated waits in a per-CPU batch for its LRU list, which holds a
    reference. Linux 5.10 takes that for a sharer and copies ("mm: do_wp_page() simplification",
    5.9); 6.1 empties the batch first. A batch holds 15 or 31 pages.
    """
    with mmap.mmap(-1, pages * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as scratch:
        scratch[::PAGE_BYTES] = bytes([1]) * pages


def _file(pages: int) -> IO[bytes]:
    """A nameless file of `pages` pages, in the page cache. /var/tmp: seldom a tmpfs."""
    import tempfile  # slow to import, and few need it

    folder = "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the region
    try:
        for _ in range(pages):
            file.write(bytes([FILE_BYTE]) * PAGE_BYTES)
        file.flush()
    except OSError as error:
        file.close()
        raise CowtraceError(
            f"cannot write a file of {pages} pages to {folder}: {error.strerror}",
            hint="make room there, or take fewer pages: --pages",
        ) from error
    return file
