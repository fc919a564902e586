"""Classify pages by their frame numbers before and after a write, from /proc/self/pagemap.

This oracle is independent of the tracer: it uses neither its maps nor its code. It does not see
faults, only their results: a page that keeps its frame was re-marked if it was write-protected.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from cowtrace.workloads.oracles.proc_files import are_zero_pages
from cowtrace.workloads.outcome import Counts
from cowtrace.workloads.region import PAGE_BYTES, Backing, Region

_ENTRY_BYTES = 8
PRESENT = 1 << 63
SWAPPED = 1 << 62
_FILE_OR_SHARED = 1 << 61
_FRAME_MASK = (1 << 55) - 1

Entries: TypeAlias = "array[int]"  # one 64-bit pagemap entry a page


def read_entries(start: int, pages: int) -> Entries:
    """This process's entries of `pages` pages from address `start`; frames are 0 if hidden.

    Opened each time: a descriptor kept across fork would show the memory of the other process.
    """
    entries = array("Q")
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(start // PAGE_BYTES * _ENTRY_BYTES)
        entries.fromfile(file, pages)
    return entries


def region_entries(region: Region) -> Entries:
    """This process's entries of the region, one for each page of the region's page size."""
    if region.page_bytes == PAGE_BYTES:
        return read_entries(region.start, region.pages)
    return array("Q", (read_entries(address, 1)[0] for address in region.addresses))


def pages_with(region: Region, bits: int) -> int:
    """Pages of the region whose entries in this process have one of these bits."""
    return sum(bool(entry & bits) for entry in region_entries(region))


def frame(entry: int) -> int:
    """The frame number in an entry; 0 where it is hidden, or where no page is mapped."""
    return entry & _FRAME_MASK


def huge_zero_as(zero: int, entries: Entries) -> Entries:
    """The entries with `zero` for every frame of the huge zero page, which has many."""
    are_zero = are_zero_pages(map(frame, entries))
    return array(
        "Q",
        (
            entry & ~_FRAME_MASK | zero if is_zero and entry & PRESENT else entry
            for entry, is_zero in zip(entries, are_zero, strict=True)
        ),
    )


def changes(
    before: Iterable[int], after: Iterable[int], *, backing: Backing, zero: int, written: bool
) -> Counts:
    """Classify each page between two readings: either all were written in between, or none was.

    The first touch of anonymous private memory is not counted: there was nothing to copy.
    `shared` is None when a shared page kept its frame while it was written: frames do not show
    whether that faulted.
    """
    copied = file_copied = zero_filled = reused = shared = 0
    shared_kept = False
    for old, new in zip(before, after, strict=True):
        if not old & PRESENT:
            if written and new & PRESENT:
                if backing.shared:
                    shared += 1
                elif backing.of_file and not new & _FILE_OR_SHARED:
                    file_copied += 1
        elif (old ^ new) & (_FRAME_MASK | PRESENT):
            if old & _FRAME_MASK == zero:
                zero_filled += 1
            else:
                copied += 1
        elif written:
            if backing.shared:
                shared_kept = True
            else:
                reused += 1
    return Counts(copied, file_copied, zero_filled, reused, None if shared_kept else shared)
