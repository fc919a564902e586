"""Tell what processes share apart by mapping: heap, stack, anonymous memory, files."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath

from cowtrace.frames.entries import AddressSpace
from cowtrace.frames.frame_sets import FrameSets, block_of
from cowtrace.frames.words import CHUNK_PAGES, EXCLUSIVE, FRAME, PAGE_BYTES, PRESENT, pages_of

_NAMELESS = "[anon]"
_KINDS = ("exclusive", "common", "others")


@dataclass(frozen=True, slots=True)
class MappingShare:
    """What one process maps under one name, in bytes of anonymous memory.

    A frame counts as often as it is mapped.
    """

    pid: int
    name: str  # `[heap]`, `[anon]`, the last part of a file's path. Hostile
    freed_by_exit: int
    common: int
    with_others: int


def by_mapping(spaces: Sequence[AddressSpace], sets: FrameSets) -> tuple[MappingShare, ...]:
    """Mappings of one name are one. `sets`: the pages of each process that are not exclusive, by
    ~number of their chunk and place, or by frame.
    """
    several = cache(sets.several)
    held = Counter(chunk for space in spaces for chunk in space.chunks.values())
    found = []
    for index, space in enumerate(spaces):
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        for name, number, part in _parts(space):
            pages = pages_of(space.chunks[number], one_space=held[space.chunks[number]] == 1)
            words = memoryview(pages.words).cast("Q")
            by_place = sets.bits(index, ~number)
            sums[name].update(
                _kind(words[at], by_place >> at & 1, several(~number) >> at & 1, several)
                for at in part
            )
        found += [
            MappingShare(space.pid, name, *(PAGE_BYTES * counts[kind] for kind in _KINDS))
            for name, counts in sums.items()
            if any(counts[kind] for kind in _KINDS)
        ]
    return tuple(found)


def _kind(word: int, by_place: int, in_several: int, several: Callable[[int], int]) -> str:
    """One of _KINDS, or none."""
    flag = word >> 56
    if not flag & PRESENT:
        return ""
    if flag & EXCLUSIVE:
        return _KINDS[0]
    if not by_place:
        block, bit = block_of(word & FRAME)
        in_several = several(block) >> bit & 1
    return _KINDS[1 if in_several else 2]


def _parts(space: AddressSpace) -> Iterator[tuple[str, int, range]]:
    """Of each mapping: its name, the chunks that it has pages in, and the places there."""
    numbers = sorted(space.chunks)  # a mapping can be far larger than what it has pages of
    for (start, end, _), name in zip(space.mappings, space.names or (), strict=True):
        shown = _name(name)
        begin = bisect_left(numbers, start // CHUNK_PAGES)
        for number in numbers[begin : bisect_left(numbers, -(-end // CHUNK_PAGES))]:
            first = number * CHUNK_PAGES
            yield shown, number, range(max(start - first, 0), min(end - first, CHUNK_PAGES))


def _name(raw: str) -> str:
    if not raw:
        return _NAMELESS
    name = raw if raw.startswith("[") else PurePath(raw).name or raw
    return raw if name.startswith("[") else name  # a file can be called [heap]
