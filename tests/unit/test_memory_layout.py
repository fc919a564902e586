"""The direct mapping is found by two pages of this process, in simulated kernel memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cowtrace import cache
from cowtrace.kernel import memory_layout
from cowtrace.kernel.memory_layout import UNKNOWN, MemoryLayout, OwnPages, find_layout

GIB = 1 << 30
FRAME = 0x000FFFFFFFFFF000
OFFSETS = {"PAGE_MAPPING": 24, "PAGE_INDEX": 32, "PAGE_STRUCT_BYTES": 64, "MM_PGD": 8}
ADDRESS, CONTENT = 0x7F12_3456_7000, 0xFEED_F00D_DEAD_BEEF
PHYSICAL = 5 * GIB + 0x1234000
STRUCT_PAGES = 0xFFFF_EA00_0000_0000
ZERO_PFN = 0x3A23


def made(base: int, levels: int, leaf_bytes: int = 4096) -> tuple[OwnPages, dict[int, int]]:
    """Pages that are mapped by so many levels of tables, and the words of kernel memory."""
    tables = [6 * GIB + 4096 * level for level in range(levels)]  # physical
    memory = {base + PHYSICAL: CONTENT}
    shift = 12 + 9 * (levels - 1)
    for table, lower in itertools.zip_longest(tables, tables[1:]):
        slot = base + table + (ADDRESS >> shift & 511) * 8
        if lower is None or 1 << shift == leaf_bytes:
            memory[slot] = PHYSICAL & -leaf_bytes | 0x67 | (0x80 if leaf_bytes > 4096 else 0)
            memory[slot + 8] = ZERO_PFN << 12 | 0x225
            break
        memory[slot] = lower | 0x67
        shift -= 9
    page = STRUCT_PAGES + (PHYSICAL >> 12) * 64
    memory |= {page + 24: 0xFFFF_8881_0000_0001, page + 32: ADDRESS >> 12}
    return OwnPages(ADDRESS, CONTENT, base + tables[0], STRUCT_PAGES + 8 * 64), memory


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("base", [0xFFFF_8880_0000_0000, 0xFF11_0000_0000_0000 + 77 * GIB])
def test_it_is_found_wherever_it_begins(base: int, levels: int) -> None:
    page, memory = made(base, levels)
    found = find_layout(page, OFFSETS, lambda at: memory.get(at, 0))
    assert found == MemoryLayout(base, STRUCT_PAGES, 12 + 9 * (levels - 1), FRAME, ZERO_PFN)


def test_a_page_in_a_huge_one_is_found() -> None:
    base = 0xFFFF_8880_0000_0000
    address = (ADDRESS & -(2 << 20)) | (PHYSICAL & ((2 << 20) - 1))
    page, memory = made(base, 4, leaf_bytes=2 << 20)
    memory[STRUCT_PAGES + (PHYSICAL >> 12) * 64 + 32] = address >> 12
    found = find_layout(page._replace(address=address), OFFSETS, lambda at: memory.get(at, 0))
    assert found[:-1] == (base, STRUCT_PAGES, 39, FRAME)


def test_another_page_with_other_content_is_not_taken_for_it() -> None:
    base = 0xFFFF_8880_0000_0000
    page, memory = made(base, 4)
    memory[base + PHYSICAL] += 1
    assert find_layout(page, OFFSETS, lambda at: memory.get(at, 0)) == UNKNOWN


@pytest.mark.parametrize("lacking", ["PAGE_INDEX", "a struct page", "its mapping"])
def test_struct_pages_may_stay_unknown(lacking: str) -> None:
    base = 0xFFFF_8880_0000_0000
    page, memory = made(base, 4)
    offsets = {name: at for name, at in OFFSETS.items() if name != lacking}
    if lacking == "a struct page":
        page = page._replace(struct_page=0)
    if lacking == "its mapping":
        memory[STRUCT_PAGES + (PHYSICAL >> 12) * 64 + 24] = 0
    found = find_layout(page, offsets, lambda at: memory.get(at, 0))
    assert found == MemoryLayout(base, 0, 39, FRAME, ZERO_PFN)


@pytest.mark.parametrize("lacking", ["", "pgdir_shift", "physical_mask"])  # by configuration
@pytest.mark.parametrize("right", [True, False])
def test_the_kernels_variables_are_read_and_checked(
    monkeypatch: pytest.MonkeyPatch, lacking: str, right: bool
) -> None:
    base = 0xFFFF_8880_0000_0000
    values = (base if right else base + GIB, STRUCT_PAGES + GIB, 39, (1 << 46) - 1)
    pages, memory = made(base, 4)
    for at, value in enumerate(values, 1):
        memory[at] = value
    symbols = {name: at for at, name in enumerate(memory_layout.VARIABLES, 1) if name != lacking}

    @contextmanager
    def own_pages(offsets: dict[str, int]) -> Iterator[OwnPages]:
        yield pages

    monkeypatch.setattr(memory_layout, "_own_pages", own_pages)
    for name in ("read_u64", "read_u32"):
        monkeypatch.setattr(memory_layout, name, lambda at: memory.get(at, 0))
    monkeypatch.setattr(cache, "read", lambda key: None)
    monkeypatch.setattr(cache, "write", lambda key, data: None)
    mask = FRAME if lacking == "physical_mask" else FRAME & values[3]
    expected = MemoryLayout(base, STRUCT_PAGES + GIB, 39, mask, ZERO_PFN)
    searched = MemoryLayout(base, STRUCT_PAGES, 39, FRAME, ZERO_PFN)
    assert memory_layout.memory_layout(symbols, OFFSETS) == (expected if right else searched)


def test_it_stays_unknown_where_no_program_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(address: int = 0) -> int:
        raise PermissionError(1, "Operation not permitted")

    for name in ("read_u64", "read_u32", "current_task"):
        monkeypatch.setattr(memory_layout, name, refused)
    monkeypatch.setattr(cache, "read", lambda key: None)
    assert memory_layout.memory_layout({}, OFFSETS) == UNKNOWN
    assert (
        memory_layout.memory_layout(dict.fromkeys(memory_layout.VARIABLES, 8), OFFSETS) == UNKNOWN
    )
    assert memory_layout.memory_layout({}, {}) == UNKNOWN
