"""Find the kernel's direct mapping of memory and its struct pages, to walk page tables (x86-64).

KASLR moves both in each boot. If /proc/kallsyms has their addresses, the kernel's variables are
read; else both are searched for. Pages of this process prove the direct mapping: the page table
must lead to their content.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from typing import NamedTuple

from cowtrace import cache
from cowtrace.kernel.kernel_memory import current_task, read_u32, read_u64
from cowtrace.kernel.members import STACK_PAGES

VARIABLES = ("page_offset_base", "vmemmap_base", "pgdir_shift", "physical_mask")
_ALIGNED = 1 << 30  # PUD_SIZE: kernel_randomize_memory() in arch/x86/mm/kaslr.c
_MOST_MEMORY = 4096  # times _ALIGNED, below which a page table lies
_MOST_STRUCT_PAGES = 64  # likewise
_PAGE_SHIFT, _TABLE_BITS = 12, 9
_TOP_SHIFTS = 39, 48  # of four and of five levels
_PRESENT, _LEAF, _FRAME = 0x1, 0x80, 0x000FFFFFFFFFF000
_MAPPING_FLAGS, _ANON = 3, 1  # include/linux/page-flags.h
_WORD_BYTES = 8
_Read = Callable[[int], int]


class MemoryLayout(NamedTuple):
    """Values of the kernel's variables of these names; 0: unknown."""

    page_offset_base: int  # where the kernel maps all memory
    vmemmap_base: int  # of the array of struct page
    pgdir_shift: int  # bits of an address below those that choose an entry of the first table
    physical_mask: int  # of the frame in an entry
    zero_pfn: int  # frame number of the zero page


UNKNOWN = MemoryLayout(0, 0, 0, 0, 0)


class OwnPages(NamedTuple):
    """Two pages of this process, and where the search for them begins."""

    address: int
    content: int  # of the first page's first word; the second page was only read
    page_table: int  # top-level table of this process, in the direct mapping
    struct_page: int  # of another page; 0: unknown


def memory_layout(symbols: Mapping[str, int], offsets: Mapping[str, int]) -> MemoryLayout:
    """Find the running kernel's layout, once a boot. `symbols`: addresses, of VARIABLES too."""
    if os.uname().machine != "x86_64" or "MM_PGD" not in offsets:
        return UNKNOWN
    key = cache.key("memory layout", cache.boot_id(), *MemoryLayout._fields)
    data = cache.read(key)
    if data is not None:
        return MemoryLayout(*json.loads(data))
    try:
        with _own_pages(offsets) as pages:
            found = find_layout(pages, offsets, read_u64, _read(symbols))
    except OSError:  # this process may run no such program
        return UNKNOWN
    cache.write(key, json.dumps(found).encode())
    return found


def _read(symbols: Mapping[str, int]) -> MemoryLayout:
    """From the variables with an address; else unknown, or the usual value."""
    base, struct_pages, shift, mask = map(symbols.get, VARIABLES)
    return UNKNOWN._replace(
        page_offset_base=read_u64(base) if base else 0,
        vmemmap_base=read_u64(struct_pages) if struct_pages else 0,
        pgdir_shift=read_u32(shift) if shift else _TOP_SHIFTS[0],
        # Without the bit by which AMD's processors encrypt the page.
        physical_mask=_FRAME & read_u64(mask) if mask else _FRAME,
    )


@contextmanager
def _own_pages(offsets: Mapping[str, int]) -> Iterator[OwnPages]:
    content = os.urandom(_WORD_BYTES)
    with mmap.mmap(-1, 2 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        with suppress(OSError):  # where the kernel has no huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory[:_WORD_BYTES] = content
        _ = memory[mmap.PAGESIZE]
        task = current_task()
        yield OwnPages(
            ctypes.addressof(ctypes.c_char.from_buffer(memory)),  # held no longer than this
            int.from_bytes(content, "little"),
            read_u64(read_u64(task + offsets["TASK_MM"]) + offsets["MM_PGD"]),
            _struct_page_of_stack(task, offsets),
        )


def _struct_page_of_stack(task: int, offsets: Mapping[str, int]) -> int:
    """Of this thread's kernel stack, where that is mapped page by page; else 0."""
    if not offsets.keys() >= STACK_PAGES.keys():
        return 0
    area = read_u64(task + offsets["TASK_STACK_VM_AREA"])
    return read_u64(read_u64(area + offsets["VM_STRUCT_PAGES"]))


def find_layout(
    pages: OwnPages, offsets: Mapping[str, int], read: _Read, known: MemoryLayout = UNKNOWN
) -> MemoryLayout:
    """`known` if the page table leads to these pages with it; else search. UNKNOWN: not found.

    `read`: a word of kernel memory, 0 where there is none. Not for guests of Xen (PV), whose page
    tables have other frame numbers.
    """
    known_first = [known] if known.page_offset_base else []
    for layout in chain(known_first, _possible(pages, read)):
        physical = _physical(pages.address, pages.page_table, layout, read)
        if physical and read(layout.page_offset_base + physical) == pages.content:
            struct_pages = layout.vmemmap_base or _struct_pages(pages, physical, offsets, read)
            zero = _physical(pages.address + mmap.PAGESIZE, pages.page_table, layout, read) or 0
            return layout._replace(vmemmap_base=struct_pages, zero_pfn=zero >> _PAGE_SHIFT)
    return UNKNOWN


def _possible(pages: OwnPages, read: _Read) -> Iterator[MemoryLayout]:
    for shift in _TOP_SHIFTS:
        first = read(_slot(pages.page_table, pages.address, shift))
        for base in _starts(pages.page_table, _MOST_MEMORY if first & _PRESENT else 0):
            yield MemoryLayout(base, 0, shift, _FRAME, 0)


def _starts(pointer: int, most: int) -> Iterator[int]:
    """Where an area with this address in it can start, the nearest first."""
    last = pointer & -_ALIGNED
    return (last - _ALIGNED * before for before in range(most) if pointer)


def _slot(table: int, address: int, shift: int) -> int:
    """Where the table has the entry for that address."""
    return table + (address >> shift << 3 & mmap.PAGESIZE - 1)


def _physical(address: int, table: int, layout: MemoryLayout, read: _Read) -> int | None:
    """The physical address that the page table gives under that layout; None: not mapped."""
    shift, frames = layout.pgdir_shift, layout.physical_mask
    while True:
        entry = read(_slot(table, address, shift))
        if not entry & _PRESENT:
            return None
        if shift == _PAGE_SHIFT or entry & _LEAF:
            inside = (1 << shift) - 1
            return entry & frames & ~inside | address & inside
        table = layout.page_offset_base + (entry & frames)
        shift -= _TABLE_BITS


def _struct_pages(pages: OwnPages, physical: int, offsets: Mapping[str, int], read: _Read) -> int:
    if not offsets.keys() >= {"PAGE_MAPPING", "PAGE_INDEX", "PAGE_STRUCT_BYTES"}:
        return 0
    for base in _starts(pages.struct_page, _MOST_STRUCT_PAGES):
        candidate = base + (physical >> _PAGE_SHIFT) * offsets["PAGE_STRUCT_BYTES"]
        is_anon = read(candidate + offsets["PAGE_MAPPING"]) & _MAPPING_FLAGS == _ANON
        # Anonymous memory is indexed by its address: vma->vm_pgoff.
        if is_anon and read(candidate + offsets["PAGE_INDEX"]) == pages.address >> _PAGE_SHIFT:
            return base
    return 0
