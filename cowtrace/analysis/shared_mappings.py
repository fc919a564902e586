"""Tell what processes share apart by mapping: heap, stack, anonymous memory, files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from cowtrace.frames.entries import AddressSpace
from cowtrace.frames.frame_sets import FrameSet
from cowtrace.frames.words import (
    CHUNK_PAGES,
    EXCLUSIVE,
    FRAME,
    PAGE_BYTES,
    PRESENT,
    WORD_BYTES,
)

_NAMELESS = "[anon]"


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


def by_mapping(
    spaces: Sequence[AddressSpace], several: FrameSet, alone: Callable[[bytes], bool]
) -> tuple[MappingShare, ...]:
    """Mappings of one name are one. `several`: frames that more than one of the processes maps;
    `alone`: whether no two of them share the memory that this chunk is of.
    """
    found = []
    for space in spaces:
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for name, words, is_own in _parts(space, alone):
            own, common, others = sums[name]
            exclusive = words[WORD_BYTES - 1 :: WORD_BYTES].count(PRESENT | EXCLUSIVE)
            shared = [word & FRAME for word in memoryview(words).cast("Q") if word >> 56 == PRESENT]
            in_common = sum(frame in several for frame in shared)
            if not is_own:
                in_common, exclusive = in_common + exclusive, 0
            sums[name] = [
                own + exclusive, common + in_common, others + len(shared) - in_common
            ]  # fmt: skip
        found += [
            MappingShare(space.pid, name, *(PAGE_BYTES * pages for pages in counts))
            for name, counts in sums.items()
            if any(counts)
        ]
    return tuple(found)


def _parts(
    space: AddressSpace, alone: Callable[[bytes], bool]
) -> Iterator[tuple[str, bytes, bool]]:
    """The words of each mapping, chunk by chunk, with its name."""
    for (start, end, _), name in zip(space.mappings, space.names or (), strict=True):
        shown = _name(name)
        for number in range(start // CHUNK_PAGES, -(-end // CHUNK_PAGES)):
            chunk = space.chunks.get(number)
            if chunk:
                first = number * CHUNK_PAGES
                begin, until = max(start - first, 0), min(end - first, CHUNK_PAGES)
                yield shown, chunk[begin * WORD_BYTES : until * WORD_BYTES], alone(chunk)


def _name(raw: str) -> str:
    if not raw:
        return _NAMELESS
    return raw if raw.startswith("[") else PurePath(raw).name or raw
