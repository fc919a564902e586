"""Writes into made-up pools and objects get their cause and type."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace.model import WriteCause
from cowtrace.symbolizer.cpython.candidates import possible_objects
from cowtrace.symbolizer.cpython.memory import Memory
from cowtrace.symbolizer.cpython.types import TypeInfo
from cowtrace.symbolizer.cpython.written import (
    RECORD_BYTES,
    Interpreter,
    WrittenWords,
    explain,
)

POOL_BYTES = 16384
POOL = 0x7F0000104000
BLOCK_BYTES = 64
BLOCK = POOL + 48 + 3 * BLOCK_BYTES
FREE = POOL + 48 + 5 * BLOCK_BYTES
LARGE = 0x5500_0000_1000
INT, ITEM, MANAGED, CODE = 0x90000, 0x90200, 0x90400, 0x90600
TYPES = {
    INT: TypeInfo("int", 24, 4, False, 0, False),
    ITEM: TypeInfo("shop.Item", 24, 0, True, 0, False),
    MANAGED: TypeInfo("shop.Order", 16, 0, True, 16, False),
    CODE: TypeInfo("code", 192, 2, False, 0, False),
}
COUNT, DATA = WriteCause.REFERENCE_COUNT, WriteCause.OBJECT_DATA


class Space:
    """The memory of a process: words by address."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}

    def put(self, address: int, *words: int) -> None:
        self.words |= {address + 8 * i: word for i, word in enumerate(words)}

    def pool(self, start: int = POOL, free: int = FREE, next_offset: int = 12_000) -> None:
        """Its header: count, first free block, links, arena and size class, offsets."""
        last = POOL_BYTES - BLOCK_BYTES
        self.put(start, 7, free, 0, 0, (BLOCK_BYTES // 16 - 1) << 32, last << 32 | next_offset)

    def word(self, address: int) -> int:
        return self.words.get(address, 0)

    def read(self, address: int, size: int) -> bytes:
        first = address & ~7
        whole = b"".join(struct.pack("<Q", self.word(at)) for at in range(first, address + size, 8))
        return whole[address - first :][:size]

    def written(self, address: int, *, pool_bytes: int = POOL_BYTES) -> WrittenWords:
        """As bpf/written.h reads it."""
        start = address & -pool_bytes
        pool = tuple(self.word(start + 8 * i) for i in range(6))
        block = 0
        if pool[5] >> 32 == POOL_BYTES - BLOCK_BYTES and address - start >= 48:
            block = start + 48 + (address - start - 48) // BLOCK_BYTES * BLOCK_BYTES
        near = tuple(self.word((address & ~7) + 8 * i) for i in range(-4, 6))
        head = tuple(self.word(block + 8 * i) if block else 0 for i in range(6))
        return WrittenWords(address, near, pool, block, head, False, pool_bytes, False, ())


@pytest.fixture
def space() -> Space:
    return Space()


def interpreter(
    space: Space, own: range = range(0), *, splits: bool = False, alive: bool = True
) -> Interpreter:
    return Interpreter(
        Memory(space.read), TYPES.get, POOL_BYTES, splits, lambda address: address in own, {}, alive
    )


def answer(space: Space, address: int, *, splits: bool = False) -> tuple[WriteCause | None, str]:
    cause, kind = explain(space.written(address), interpreter(space, splits=splits))
    return cause, kind.name if kind else ""


def test_an_object_without_anything_in_front(space: Space) -> None:
    space.pool()
    space.put(BLOCK, 3, INT, 1, 42)
    assert answer(space, BLOCK) == (COUNT, "int")
    assert answer(space, BLOCK + 4) == (COUNT, "int")
    assert answer(space, BLOCK + 24) == (DATA, "int")


def test_an_object_that_the_collector_knows(space: Space) -> None:
    space.pool()
    space.put(BLOCK, 0x7F01, 0x7F02, 1, ITEM, 5)
    assert answer(space, BLOCK) == (WriteCause.GC_HEADER, "shop.Item")
    assert answer(space, BLOCK + 8) == (WriteCause.GC_HEADER, "shop.Item")
    assert answer(space, BLOCK + 16) == (COUNT, "shop.Item")
    assert answer(space, BLOCK + 32) == (DATA, "shop.Item")


def test_an_object_with_pointers_in_front_of_its_links(space: Space) -> None:
    space.pool()
    space.put(BLOCK, 0, 0x7F0000, 0x7F01, 0x7F02, 1, MANAGED)
    assert answer(space, BLOCK + 8) == (DATA, "shop.Order")
    assert answer(space, BLOCK + 16) == (WriteCause.GC_HEADER, "shop.Order")
    assert answer(space, BLOCK + 32) == (COUNT, "shop.Order")


def test_what_is_no_object_in_a_pool(space: Space) -> None:
    space.pool(next_offset=48 + 9 * BLOCK_BYTES)
    space.put(BLOCK, 0x1234_5678_9ABC, 0x1000_0000, 7)
    assert answer(space, POOL + 8) == (WriteCause.ALLOCATOR, "")
    assert answer(space, BLOCK + 40) == (WriteCause.BUFFER, "")
    assert answer(space, FREE + 8) == (WriteCause.ALLOCATOR, "")
    assert answer(space, POOL + 48 + 9 * BLOCK_BYTES) == (WriteCause.ARENA, "")


def test_freed_objects_belong_to_the_allocator(space: Space) -> None:
    space.pool(free=0)
    space.put(BLOCK, FREE, INT, 1, 42)  # the first word links to the next free block
    assert answer(space, BLOCK) == (WriteCause.ALLOCATOR, "int")
    space.put(BLOCK, 0x7F01, 0x7F02, 0, ITEM)  # kept in a free list of its type
    assert answer(space, BLOCK + 16) == (WriteCause.ALLOCATOR, "shop.Item")
    space.put(BLOCK, FREE, 0, 0, 0)
    assert answer(space, BLOCK) == (WriteCause.ALLOCATOR, "")


def test_a_count_of_32_bits_has_other_bits_above(space: Space) -> None:
    space.pool()
    space.put(BLOCK, 0x50_0000_0000_0001, INT)
    assert answer(space, BLOCK, splits=True) == (COUNT, "int")
    assert answer(space, BLOCK) == (WriteCause.BUFFER, "")  # too large for a count
    space.put(BLOCK, 0x50_0000_0000_0000, INT)
    assert answer(space, BLOCK, splits=True) == (WriteCause.ALLOCATOR, "int")


def test_larger_objects_are_found_by_their_type(space: Space) -> None:
    space.put(LARGE, 0x7F01, 0x7F02, 2, ITEM, 5)
    assert answer(space, LARGE + 16) == (COUNT, "shop.Item")
    assert answer(space, LARGE + 8) == (WriteCause.GC_HEADER, "shop.Item")
    assert answer(space, LARGE) == (WriteCause.GC_HEADER, "shop.Item")
    assert answer(space, LARGE + 32) == (DATA, "shop.Item")
    assert answer(space, LARGE + 48) == (None, "")  # behind it
    space.put(LARGE + 512, 1, CODE, 1000)
    assert answer(space, LARGE + 512 + 192 + 1999) == (DATA, "code")
    assert answer(space, LARGE + 512 + 192 + 2000) == (None, "")


def test_a_page_that_could_not_be_read_has_no_cause(space: Space) -> None:
    space.pool()
    found = replace(space.written(BLOCK), unread=True)
    assert explain(found, interpreter(space)) == (WriteCause.UNKNOWN, None)


def test_a_pointer_in_front_of_a_type_is_no_count(space: Space) -> None:
    """As in an array of types, or of keys and types."""
    space.put(LARGE, 0x7FEF_713E_D800, ITEM, 0x7FEF_714E_3BD0)
    for splits in (False, True):
        assert answer(space, LARGE + 16, splits=splits) == (None, "")
        assert answer(space, LARGE, splits=splits) == (None, "")


def test_the_interpreters_variables_and_unused_pools(space: Space) -> None:
    found = space.written(0x400123)
    own = interpreter(space, range(0x400000, 0x500000))
    assert explain(found, own) == (WriteCause.INTERPRETER, None)
    space.pool(POOL - POOL_BYTES)
    assert answer(space, POOL + 640) == (WriteCause.ARENA, "")
    assert answer(space, POOL + 9 * POOL_BYTES) == (None, "")


def test_pools_of_another_size_are_read_again(space: Space) -> None:
    space.pool()
    space.put(BLOCK, 3, INT, 1, 42)
    assert space.written(BLOCK, pool_bytes=4096).block == BLOCK  # of its first 4 KiB
    found = space.written(BLOCK + POOL_BYTES // 2 + 24, pool_bytes=4096)
    assert found.block == 0
    assert explain(found, interpreter(space)) == (WriteCause.BUFFER, None)


@given(st.binary(min_size=RECORD_BYTES, max_size=RECORD_BYTES), st.booleans())
def test_any_record_has_an_answer(raw: bytes, splits: bool) -> None:
    cause, kind = explain(WrittenWords.of(raw), interpreter(Space(), splits=splits))
    assert cause is None or isinstance(cause, WriteCause)
    assert kind is None or kind in TYPES.values()


WORDS = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 1 << 20),
    st.integers(1 << 12, 1 << 20).map(lambda number: number << 3),
    st.integers(0, 255).map(lambda byte: byte << 48),
    st.integers(0, 255).map(lambda byte: byte << 56 | 8),
    st.sampled_from([1 << 16, (1 << 16) - 8, 1 << 32, 1 << 40, (1 << 56) - 8, 1 << 56]),
)


@given(st.lists(WORDS, max_size=40), st.booleans())
def test_words_at_which_an_object_can_begin(words: list[int], splits: bool) -> None:
    found = possible_objects(struct.pack(f"<{len(words)}Q", *words), splits_counts=splits)
    assert found == [
        at
        for at in range(len(words) - 2, -1, -1)
        if words[at] & 0xFFFFFFFF
        and (splits or words[at] < 1 << 40)
        and 1 << 16 <= words[at + 1] < 1 << 56
        and not words[at + 1] & 7
    ]


NO_TYPE = 0x7F0000204000


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((3, ITEM), (COUNT, "shop.Item")),  # a type that was seen before
        ((3, NO_TYPE), (WriteCause.UNKNOWN, "")),  # one that was not, or none
        ((0, NO_TYPE), (WriteCause.UNKNOWN, "")),  # the same, freed
        ((1, 0x10303, 5, 0, (1 << 64) - 1), (WriteCause.BUFFER, "")),  # keys of a dict
        ((NO_TYPE, NO_TYPE, NO_TYPE, NO_TYPE), (WriteCause.BUFFER, "")),  # items of a list
        ((FREE, 5), (WriteCause.ALLOCATOR, "")),
    ],
)
def test_of_an_ended_process_only_what_the_record_tells(
    space: Space, words: tuple[int, ...], expected: tuple[WriteCause, str]
) -> None:
    space.pool()
    space.put(BLOCK, *words)
    cause, kind = explain(space.written(BLOCK), interpreter(space, alive=False))
    assert (cause, kind.name if kind else "") == expected


def test_outside_of_pools_an_ended_process_tells_its_known_types_alone(space: Space) -> None:
    space.put(LARGE, 3, ITEM)
    ended = interpreter(space, range(LARGE, LARGE + 4096), alive=False)
    assert explain(space.written(LARGE), ended) == (COUNT, TYPES[ITEM])
    assert explain(space.written(LARGE + 1024), ended) == (WriteCause.UNKNOWN, None)
