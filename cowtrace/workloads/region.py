"""Map the memory that workloads write: one mapping at a fixed address."""

from __future__ import annotations

import ctypes
import enum
import itertools
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO

from cowtrace.errors import CowtraceError
from cowtrace.libc import libc
from cowtrace.workloads import calls

PAGE_BYTES = mmap.PAGESIZE

# Far below where position-independent programs, the heap, libraries and the stack are put on
# x86-64 and on arm64, however they are randomised; 16 TiB, so that any memory fits. On riscv64,
# page tables of three levels (Sv39) end at 256 GiB: there it is the 64 GiB below the programs.
REGION_START, REGION_END = (
    (0x10_0000_0000, 0x20_0000_0000)
    if os.uname().machine == "riscv64"
    else (0x2000_0000_0000, 0x3000_0000_0000)
)

HUGE_BYTES = PAGE_BYTES * (PAGE_BYTES // 8)  # what one table of 8-byte entries maps
GIGANTIC_BYTES = HUGE_BYTES * (PAGE_BYTES // 8)
HUGE_PAGES = HUGE_BYTES // PAGE_BYTES  # small pages in a huge one

_STACK_ROOM_BYTES = 4096 * PAGE_BYTES

FILE_BYTE = 0x66  # what every byte of a region's file is

_MAP_FIXED_NOREPLACE = 0x100000  # Linux 4.17; not in Python's mmap module
_MAP_GROWSDOWN = 0x100
_MAP_HUGETLB = 0x40000
_MAP_HUGE_SHIFT = 26
_PR_SET_THP_DISABLE = 41
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = libc()


class Backing(enum.Enum):
    """What the region maps."""

    ANONYMOUS = "anonymous"
    SHARED_ANONYMOUS = "shared-anonymous"
    PRIVATE_FILE = "private-file"
    SHARED_FILE = "shared-file"
    SHMEM = "shmem"
    HUGE = "huge"  # anonymous, in transparent huge pages
    STACK = "stack"  # anonymous, grows downwards from its topmost page
    HUGETLB = "hugetlb"
    HUGETLB_1G = "hugetlb-1g"

    @property
    def shared(self) -> bool:
        return self in (Backing.SHARED_ANONYMOUS, Backing.SHARED_FILE, Backing.SHMEM)

    @property
    def of_file(self) -> bool:
        return self in (Backing.PRIVATE_FILE, Backing.SHARED_FILE)

    @property
    def page_bytes(self) -> int:
        """Size of a page of the region: transparent huge pages are written in small pages."""
        large = {Backing.HUGETLB: HUGE_BYTES, Backing.HUGETLB_1G: GIGANTIC_BYTES}
        return large.get(self, PAGE_BYTES)


@dataclass(frozen=True)
class Region:
    """A mapped region. Its pages are stored to and loaded from in user mode, never by a call."""

    pages: int
    backing: Backing
    view: memoryview = field(repr=False)
    file: IO[bytes] | None = field(repr=False)
    start: int = REGION_START

    @property
    def page_bytes(self) -> int:
        return self.backing.page_bytes

    @property
    def size_bytes(self) -> int:
        return self.pages * self.page_bytes

    @property
    def addresses(self) -> range:
        """Where each page begins."""
        return range(self.start, self.start + self.size_bytes, self.page_bytes)

    def store(self, value: int) -> None:
        """Write the first byte of each page, in order, once."""
        self.view[:: self.page_bytes] = bytes([value]) * self.pages

    def store_pages(self, value: int, pages: Iterable[int]) -> None:
        """Write the first byte of these pages, by number, in this order."""
        for page in pages:
            self.view[page * self.page_bytes] = value

    def fill(self, value: int) -> None:
        """Write every byte, in order. Releases the GIL, so that threads can race."""
        ctypes.memset(self.start, value, self.size_bytes)

    def load(self) -> bytes:
        """Read the first byte of each page, in order."""
        return bytes(self.view[:: self.page_bytes])

    def load_from_file(self) -> set[int]:
        """Read the first byte of each page of the file that is mapped."""
        assert self.file is not None
        file = self.file.fileno()
        return {os.pread(file, 1, page * PAGE_BYTES)[0] for page in range(self.pages)}


def map_region(pages: int, backing: Backing) -> Region:
    """Map `pages` untouched pages at REGION_START, which fault page by page.

    Raises CowtraceError when the kernel refuses.
    """
    huge = backing is Backing.HUGE
    _libc.prctl(_PR_SET_THP_DISABLE, not huge, 0, 0, 0)  # one fault would map many pages
    size = pages * backing.page_bytes
    mapped = -(-size // HUGE_BYTES) * HUGE_BYTES if huge else size
    file = _file(pages, backing)
    flags = _MAP_FIXED_NOREPLACE | (mmap.MAP_SHARED if backing.shared else mmap.MAP_PRIVATE)
    if file is None:
        flags |= mmap.MAP_ANONYMOUS
    if backing in (Backing.HUGETLB, Backing.HUGETLB_1G):
        flags |= _MAP_HUGETLB | (backing.page_bytes.bit_length() - 1) << _MAP_HUGE_SHIFT
    start = first = REGION_START
    length = mapped
    if backing is Backing.STACK:  # room to grow below: as much again, and the guard gap
        flags |= _MAP_GROWSDOWN
        start += size + _STACK_ROOM_BYTES
        first, length = start + size - PAGE_BYTES, PAGE_BYTES
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    at = _libc.mmap(first, length, protection, flags, file.fileno() if file else -1, 0)
    if at != first:
        why = os.strerror(ctypes.get_errno()) if at == _MAP_FAILED else "mapped elsewhere"
        raise CowtraceError(
            f"cannot map {pages} pages at {start:#x}: {why}", hint="take fewer pages: --pages"
        )
    # Refused where the kernel has no transparent huge pages.
    _libc.madvise(start, mapped, mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    buffer = (ctypes.c_ubyte * size).from_address(start)
    return Region(pages, backing, memoryview(buffer).cast("B"), file, start)


def map_over(
    region: Region,
    backing: Backing,
    *,
    flags: int = mmap.MAP_PRIVATE,
    protection: int = mmap.PROT_READ | mmap.PROT_WRITE,
    file: IO[bytes] | None = None,
) -> Region:
    """Map something else, untouched, in place of a region; raises OSError when refused.

    `file` must be as large as the region; without one, `flags` include MAP_ANONYMOUS.
    """
    descriptor = file.fileno() if file else -1
    calls.map_anew(region.start, region.size_bytes, flags, protection, descriptor)
    return replace(region, backing=backing, file=file)


@contextmanager
def scratch_region(pages: int) -> Iterator[Region]:
    """Map other private memory of `pages` small pages, each already written."""
    size = pages * PAGE_BYTES
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with memoryview(memory) as view:
        scratch = Region(pages, Backing.ANONYMOUS, view, None, start)
        scratch.fill(1)
        yield scratch
    # Not closed, which fails while something points into it: unmapped with the last pointer.


def touch_scratch(pages: int = 64) -> None:
    """Touch new pages outside the region, so that the region's pages leave this CPU's batches.

    A page that was just allocated waits in a per-CPU batch for its LRU list, which holds a
    reference. Linux 5.10 takes that for a sharer and copies ("mm: do_wp_page() simplification",
    5.9); 6.1 empties the batch first. A batch holds 15 or 31 pages.
    """
    with mmap.mmap(-1, pages * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as scratch:
        scratch[::PAGE_BYTES] = bytes([1]) * pages


def pin_to_one_cpu() -> None:
    """Run this process on one CPU from now on: the last one that is online.

    Each CPU has its own batches of new pages: see `touch_scratch`.
    """
    for cpu in sorted(os.sched_getaffinity(0), reverse=True):
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError:  # EINVAL: it went offline
            continue
        return
    raise CowtraceError("no CPU takes this process", hint="see its CPUs: taskset -p PID")


def _file(pages: int, backing: Backing) -> IO[bytes] | None:
    """A nameless file of `pages` pages, in the page cache. /var/tmp: seldom a tmpfs."""
    if backing is Backing.SHMEM:
        memory = os.fdopen(os.memfd_create("cowtrace"), "r+b")
        memory.truncate(pages * PAGE_BYTES)
        return memory
    if not backing.of_file:
        return None
    import tempfile  # slow to import, and few need it

    folder = "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the region
    try:
        file.writelines(itertools.repeat(bytes([FILE_BYTE]) * PAGE_BYTES, pages))
        file.flush()
    except OSError as error:
        raise CowtraceError(
            f"cannot write a file of {pages} pages to {folder}: {error.strerror}",
            hint="make room there, or take fewer pages: --pages",
        ) from error
    return file
