"""Find where the kernel maps all memory and keeps its struct pages, to walk page tables (x86-64).

With KASLR that differs in each boot. Where /proc/kallsyms lacks the variables that say so, pages
of this process show it: the page table leads to their content, and struct page has their index.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
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


class MemoryLayout(NamedTuple):
    """The kernel's variables of these names: their values. 0: unknown."""

    page_offset_base: int  # where the kernel maps all memory
    vmemmap_base: int  # of the array of struct page
    pgdir_shift: int  # bits of an address below those that choose an entry of the first table
    physical_mask: int  # of the frame in an entry


UNKNOWN = MemoryLayout(0, 0, 0, 0)


class OwnPage(NamedTuple):
    """A page of this process, and where the search for it begins."""

    address: int
    content: int  # of its first word
    page_table: int  # the first one of this process, in the mapping of all memory
    struct_page: int  # of another page; 0: unknown


def memory_layout(symbols: Mapping[str, int], offsets: Mapping[str, int]) -> MemoryLayout:
    """Of the running kernel, found once a boot. `symbols`: addresses of VARIABLES, if known."""
    if os.uname().machine != "x86_64" or "MM_PGD" not in offsets:
        return UNKNOWN
    key = cache.key("memory layout", cache.boot_id())
    data = cache.read(key)
    if data is not None:
        return MemoryLayout(*json.loads(data))
    found = UNKNOWN
    with suppress(OSError):  # this process may run no such program
        found = _read(symbols) if symbols.get(VARIABLES[0]) else _find(offsets)
    if all(found):
        cache.write(key, json.dumps(found).encode())
    return found


def _read(symbols: Mapping[str, int]) -> MemoryLayout:
    base, struct_pages, shift, mask = map(symbols.get, VARIABLES)
    return MemoryLayout(
        read_u64(base) if base else 0,
        read_u64(struct_pages) if struct_pages else 0,
        read_u32(shift) if shift else _TOP_SHIFTS[0],
        # Without the bit by which AMD's processors encrypt the page.
        _FRAME & read_u64(mask) if mask else _FRAME,
    )


def _find(offsets: Mapping[str, int]) -> MemoryLayout:
    content = os.urandom(_WORD_BYTES)
    with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        with suppress(OSError):  # where the kernel has no huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory[:_WORD_BYTES] = content
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))  # held no longer than this
        task = current_task()
        page = OwnPage(
            address,
            int.from_bytes(content, "little"),
            read_u64(read_u64(task + offsets["TASK_MM"]) + offsets["MM_PGD"]),
            _struct_page_of_stack(task, offsets),
        )
        return find_layout(page, offsets, read_u64)


def _struct_page_of_stack(task: int, offsets: Mapping[str, int]) -> int:
    """Of this thread's kernel stack, where that is mapped page by page; else 0."""
    if not offsets.keys() >= STACK_PAGES.keys():
        return 0
    area = read_u64(task + offsets["TASK_STACK_VM_AREA"])
    return read_u64(read_u64(area + offsets["VM_STRUCT_PAGES"]))


def find_layout(
    page: OwnPage, offsets: Mapping[str, int], read: Callable[[int], int]
) -> MemoryLayout:
    """From one page; what it does not show is 0. `read`: a word of kernel memory, 0 for none."""
    for shift in _TOP_SHIFTS:
        for base in _starts(page.page_table, _MOST_MEMORY):
            physical = _physical(page, base, shift, read)
            if physical and read(base + physical) == page.content:
                struct_pages = _struct_pages(page, physical, offsets, read)
                return MemoryLayout(base, struct_pages, shift, _FRAME)
    return UNKNOWN


def _starts(pointer: int, most: int) -> Iterator[int]:
    """Where an area with this address in it can start, the nearest first."""
    last = pointer & -_ALIGNED
    return (last - _ALIGNED * before for before in range(most) if pointer)


def _physical(page: OwnPage, base: int, shift: int, read: Callable[[int], int]) -> int | None:
    """The page's physical address by its page table, if all memory is mapped at `base`."""
    table = page.page_table
    while True:
        entry = read(table + (page.address >> shift << 3 & mmap.PAGESIZE - 1))
        if not entry & _PRESENT:
            return None
        if shift == _PAGE_SHIFT or entry & _LEAF:
            inside = (1 << shift) - 1
            return entry & _FRAME & ~inside | page.address & inside
        table = base + (entry & _FRAME)
        shift -= _TABLE_BITS


def _struct_pages(
    page: OwnPage, physical: int, offsets: Mapping[str, int], read: Callable[[int], int]
) -> int:
    if not offsets.keys() >= {"PAGE_MAPPING", "PAGE_INDEX", "PAGE_STRUCT_BYTES"}:
        return 0
    for base in _starts(page.struct_page, _MOST_STRUCT_PAGES):
        candidate = base + (physical >> _PAGE_SHIFT) * offsets["PAGE_STRUCT_BYTES"]
        is_anon = read(candidate + offsets["PAGE_MAPPING"]) & _MAPPING_FLAGS == _ANON
        # Anonymous memory is indexed by its address: vma->vm_pgoff.
        if is_anon and read(candidate + offsets["PAGE_INDEX"]) == page.address >> _PAGE_SHIFT:
            return base
    return 0
