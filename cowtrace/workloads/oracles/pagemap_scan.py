"""Ask the kernel which pages were written since they were last protected: PAGEMAP_SCAN."""

from __future__ import annotations

import ctypes
import fcntl
import struct
from pathlib import Path

from cowtrace.workloads.region import PAGE_BYTES, Region

_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_WP_MATCHING, _CHECK_WPASYNC = 1, 2
_PAGE_IS_WRITTEN = 2
# size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask,
# category_anyof_mask, return_mask
_ARGUMENT = struct.Struct("=12Q")
_RANGE = struct.Struct("=3Q")  # struct page_region: start, end, categories


def written_pages(region: Region, *, protect: bool) -> set[int]:
    """Which pages were written, by their numbers; `protect` protects them again, in one step.

    For memory of a userfaultfd in async mode. Raises OSError where the kernel has no such scan:
    "fs/proc/task_mmu: implement IOCTL to get and optionally clear info about PTEs" (6.7).
    """
    ranges = ctypes.create_string_buffer(_RANGE.size * region.pages)
    argument = _ARGUMENT.pack(
        _ARGUMENT.size,
        _CHECK_WPASYNC | (_WP_MATCHING if protect else 0),
        region.start,
        region.start + region.size_bytes,
        0,
        ctypes.addressof(ranges),
        region.pages,
        0,
        0,
        _PAGE_IS_WRITTEN,
        0,
        _PAGE_IS_WRITTEN,
    )
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        found = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, bytearray(argument))
    pages: set[int] = set()
    for start, end, _ in _RANGE.iter_unpack(ranges.raw[: found * _RANGE.size]):
        pages.update(
            range((start - region.start) // PAGE_BYTES, (end - region.start) // PAGE_BYTES)
        )
    return pages
