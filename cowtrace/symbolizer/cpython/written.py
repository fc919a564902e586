"""Tell what a write changed in CPython's memory: struct written in, cause and type out.

Most objects lie in blocks of the allocator's pools (Objects/obmalloc.c). A pool is aligned to its
own size and begins with a header, whose last field depends on the size of its blocks: a header is
recognised by it. An object is recognised by its type, which also says how many bytes lie in front
of it. Larger objects, static ones and those of other allocators are found by their type alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from cowtrace.model import WriteCause
from cowtrace.symbolizer.cpython.candidates import possible_objects
from cowtrace.symbolizer.cpython.memory import Memory
from cowtrace.symbolizer.cpython.pools import POOL_HEADER_BYTES, Pool
from cowtrace.symbolizer.cpython.types import TypeInfo

# An address, struct written of bpf/cow.h, the code of its python_frames.
_FIELDS = struct.Struct("<Q16x10Q6QQ6QQ16xII32Q")
RECORD_BYTES = _FIELDS.size
_OBJECT = struct.Struct("<3Q")  # reference count, type, how many items it has
_LINKS_BYTES = 16  # of the garbage collector, in front of an object: PyGC_Head
_HEADERS = (0, 16, 32)  # bytes that can lie in front of an object in its block
_NEAR = 4  # index of the written word in `near`
_MOST_COUNT = 1 << 40  # larger ones are pointers
_LEAST_ADDRESS, _MOST_ADDRESS = 1 << 16, 1 << 56  # of user memory
_STEP_BYTES = 4096  # that can be read, or not, together
_SCANNED_BYTES = 8192  # in front of a write, for the object that holds it
_MOST_LOOKUPS = 64  # of types in one scan
_NEIGHBOURS = (-1, 1, -2, 2, -3, 3, -4, 4)  # pools that tell an arena

TypeAt = Callable[[int], TypeInfo | None]  # the type object at an address
Answer = tuple[WriteCause | None, TypeInfo | None]  # None: not known by this


@dataclass(frozen=True, slots=True)
class WrittenWords:
    """struct written of bpf/cow.h, without what the tracer itself reads."""

    address: int
    near: tuple[int, ...]
    pool: tuple[int, ...]
    block: int  # 0: in no pool
    head: tuple[int, ...]
    finalizing: bool  # the interpreter shuts down
    pool_bytes: int
    unread: bool  # the page that is written could not be read: its words are 0
    codes: tuple[int, ...]  # addresses of the code objects of the Python frames; 0 after the last

    @staticmethod
    def of(raw: bytes) -> WrittenWords:
        """From RECORD_BYTES bytes."""
        fields = _FIELDS.unpack(raw)
        near, pool, head = fields[1:11], fields[11:17], fields[18:24]
        return WrittenWords(
            fields[0], near, pool, fields[17], head,
            bool(fields[24]), fields[25], bool(fields[26]), fields[27:],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What `explain` has to know of a process."""

    memory: Memory
    type_at: TypeAt
    pool_bytes: int
    splits_counts: bool  # a reference count has 32 bits: since 3.12
    is_own: Callable[[int], bool]  # whether an address lies in the interpreter's own variables
    pools: dict[int, bool]  # whether a pool lies at an address, as far as it is known
    is_alive: bool  # False: no memory can be read, a type that was not seen before is not known


def explain(found: WrittenWords, by: Interpreter) -> Answer:
    """The cause and the type of the object. No cause: only the mapping tells it.

    UNKNOWN: what would tell it could not be read.
    """
    if found.unread:
        return WriteCause.UNKNOWN, None
    if found.pool_bytes != by.pool_bytes:
        found = _read_again(found, by)
    pool = Pool.of(found.pool, found.address & -found.pool_bytes, found.pool_bytes)
    if pool:
        return _in_pool(found, pool, by)
    answer = _beside_type(found, by)
    if answer is None and not by.is_alive:
        return WriteCause.UNKNOWN, None
    answer = answer or _in_object(found, by)
    if answer:
        return answer
    if by.is_own(found.address):
        return WriteCause.INTERPRETER, None
    if _has_neighbours(found, by):
        return WriteCause.ARENA, None
    return None, None


def _in_pool(found: WrittenWords, pool: Pool, by: Interpreter) -> Answer:
    if not found.block:
        return WriteCause.ALLOCATOR, None  # the pool's own header
    if found.block - pool.start >= pool.next_offset:
        return WriteCause.ARENA, None
    for in_front in _HEADERS:
        at = in_front // 8
        kind = by.type_at(found.head[at + 1])
        if kind is None or _in_front(kind) != in_front:
            continue
        if in_front + kind.basic_bytes > pool.block_bytes:
            continue
        if pool.is_link(found.head[at]) or not _count(found.head[at], by):
            return WriteCause.ALLOCATOR, kind  # freed: in a free list
        if not _is_count(found.head[at], by):
            continue
        return _part(found.address - found.block - in_front, kind), kind
    if found.block == pool.free or pool.is_link(found.head[0]):
        return WriteCause.ALLOCATOR, None
    # PYTHONMALLOC=debug: words of its own lie in front of an object.
    answer = _beside_type(found, by)
    if answer is None and not by.is_alive and _can_be_object(found, by):
        return WriteCause.UNKNOWN, None
    return answer or (WriteCause.BUFFER, None)


def _can_be_object(found: WrittenWords, by: Interpreter) -> bool:
    """Whether it has what is needed in the places of a reference count and of a type's address."""
    return any(
        _is_pointer(words[at + 1]) and (not _count(words[at], by) or _is_count(words[at], by))
        for words, at in (*((found.head, each // 8) for each in _HEADERS), (found.near, _NEAR))
    )


def _is_pointer(word: int) -> bool:
    return not word % 8 and _LEAST_ADDRESS <= word < _MOST_ADDRESS


def _in_front(kind: TypeInfo) -> int:
    return kind.pre_header_bytes + (_LINKS_BYTES if kind.has_gc else 0)


def _part(offset: int, kind: TypeInfo) -> WriteCause:
    """What lies at that offset from an object's beginning."""
    if 0 <= offset < 8:
        return WriteCause.REFERENCE_COUNT
    if kind.has_gc and -_LINKS_BYTES <= offset < 0:
        return WriteCause.GC_HEADER
    return WriteCause.OBJECT_DATA


def _count(word: int, by: Interpreter) -> int:
    return word & 0xFFFFFFFF if by.splits_counts else word


def _is_count(word: int, by: Interpreter) -> bool:
    """Whether it can be a reference count: no pointer is one."""
    if by.splits_counts:  # above it, flags since 3.14, none of which lies where a pointer has bits
        return word & 0xFFFFFFFF > 0 and not word >> 32 & 0xFFFF
    return 0 < word <= _MOST_COUNT


def _beside_type(found: WrittenWords, by: Interpreter) -> Answer | None:
    """A reference count is the word in front of a type; links of the collector, in front of it."""
    near = found.near
    for links in range(3):
        at = _NEAR + links
        kind = by.type_at(near[at + 1])
        if kind and _is_count(near[at], by) and (kind.has_gc or not links):
            return (WriteCause.GC_HEADER if links else WriteCause.REFERENCE_COUNT), kind
    return None


def _in_object(found: WrittenWords, by: Interpreter) -> Answer | None:
    """The nearest object in front of the write that is long enough. Reads the memory of now."""
    last = found.address & ~7
    first = max(0, last - _SCANNED_BYTES)
    memory = _bytes_before(by.memory, first, last + 8)
    first = last + 8 - len(memory)
    memory += bytes(8)
    lookups = 0
    for index in possible_objects(memory, splits_counts=by.splits_counts):
        count, pointer, items = _OBJECT.unpack_from(memory, 8 * index)
        if not _is_count(count, by):  # the search compares its lower half alone
            continue
        lookups += 1
        if lookups > _MOST_LOOKUPS:
            return None
        kind = by.type_at(pointer)
        if kind is None:
            continue
        size = kind.basic_bytes
        if kind.item_bytes:
            size += min(items if items < 1 << 63 else (1 << 64) - items, 1 << 32) * kind.item_bytes
        if found.address < first + 8 * index + size:
            return WriteCause.OBJECT_DATA, kind
    return None


def _has_neighbours(found: WrittenWords, by: Interpreter) -> bool:
    """Whether pools lie beside the place: then it is one of an arena, not used yet."""
    start = found.address & -by.pool_bytes
    return any(_is_pool(start + step * by.pool_bytes, by) for step in _NEIGHBOURS)


def _is_pool(start: int, by: Interpreter) -> bool:
    if start not in by.pools:
        header = by.memory.words(start, POOL_HEADER_BYTES) if start > 0 else ()
        by.pools[start] = Pool.of(header, start, by.pool_bytes) is not None
    return by.pools[start]


def _bytes_before(memory: Memory, start: int, end: int) -> bytes:
    """Those in front of `end`, from `start` on or from a page on that can be read."""
    while start < end:
        data = memory.whole_words(start, end - start)
        if len(data) == end - start:
            return data
        start = (start + len(data)) // _STEP_BYTES * _STEP_BYTES + _STEP_BYTES
    return b""


def _read_again(found: WrittenWords, by: Interpreter) -> WrittenWords:
    """Where pools have another size than was taken for granted at the write."""
    start = found.address & -by.pool_bytes
    header = by.memory.words(start, POOL_HEADER_BYTES)
    block, head = 0, found.head
    pool = Pool.of(header, start, by.pool_bytes)
    offset = found.address - start - POOL_HEADER_BYTES
    if pool and offset >= 0:
        block = start + POOL_HEADER_BYTES + offset // pool.block_bytes * pool.block_bytes
        head = by.memory.words(block, 8 * len(found.head))
        head += (0,) * (len(found.head) - len(head))
    return replace(found, pool=header, block=block, head=head, pool_bytes=by.pool_bytes)
