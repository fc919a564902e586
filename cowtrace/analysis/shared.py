"""Compare the page frames of processes: who maps how much with whom, and what an exit frees."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path

from cowtrace.analysis.shared_mappings import MappingShare, by_mapping
from cowtrace.frames import entries
from cowtrace.frames.entries import AddressSpace, Gone, hidden
from cowtrace.frames.frame_sets import FrameSets, repeated
from cowtrace.frames.same_place import Reference
from cowtrace.frames.words import (
    CHUNK_BYTES,
    PAGE_BYTES,
    Chunk,
    mapped_times,
    pages_of,
    shared_frames,
    zero_frame,
)

_PROC = Path("/proc")
_MOST_COMPARED_BYTES = 64 << 20  # of entries, to see what changed


@dataclass(frozen=True, slots=True)
class Holder:
    """What one process maps, in bytes."""

    pid: int
    freed_by_exit: int  # anonymous memory that no other process of the system maps
    common: int  # anonymous memory that at least one other of these processes maps
    with_others: int  # anonymous memory that processes map that are none of these
    files: int  # pages of files and of shared memory
    swapped: int  # anonymous memory in swap


@dataclass(frozen=True, slots=True)
class Sharing:
    """What some processes mapped when they were read, one after the other."""

    holders: tuple[Holder, ...]
    pairs: dict[tuple[int, int], int]  # by pids, the lower first: anonymous bytes of both
    by_holders: tuple[int, ...]  # anonymous bytes that exactly 1, 2... of them map
    ended: tuple[int, ...]  # pids of those that did so meanwhile
    changed: int | None  # pages whose entry did so while the others were read; None: not compared
    unread: int  # bytes of sparse mappings that would take too long to read: before Linux 6.7
    at_ns: int  # CLOCK_MONOTONIC, when the first was read
    seconds: float  # from then until the last was read
    mappings: tuple[MappingShare, ...] | None = None  # None: not asked for

    @property
    def anonymous(self) -> int:
        """Bytes of anonymous memory that they take together: each frame once."""
        return sum(self.by_holders)


def read(pids: Sequence[int], proc: Path = _PROC, *, mappings: bool = False) -> Sharing:
    """Read these processes; `mappings`: tell their mappings apart, too.

    Raises CowtraceError: frame numbers or processes are hidden.
    """
    began = time.monotonic_ns()
    zero = zero_frame()
    if zero is None:
        raise hidden("frame numbers in /proc/PID/pagemap are hidden")
    spaces: list[AddressSpace] = []
    ended: list[int] = []
    same: dict[bytes, Chunk] = {}
    for pid in sorted(pids):
        try:
            spaces.append(entries.read(pid, zero, same, proc, names=mappings))
        except Gone:
            ended.append(pid)
        except PermissionError:
            raise hidden(f"the mappings of process {pid} are hidden") from None
    seconds = (time.monotonic_ns() - began) / 1e9
    changed = _changed(spaces, zero, proc)
    holders, pairs, by_holders, sets = _compared(spaces)
    unread = sum(space.unread for space in spaces)
    by_name = None
    if mappings:
        by_name = by_mapping(spaces, sets)
    return Sharing(
        holders, pairs, by_holders, tuple(ended), changed, unread, began, seconds, by_name
    )


def _compared(
    spaces: Sequence[AddressSpace],
) -> tuple[tuple[Holder, ...], dict[tuple[int, int], int], tuple[int, ...], FrameSets]:
    """Sharing.holders, pairs and by_holders, and the frames that are not exclusive."""
    exclusive, shared = ([0] * len(spaces) for _ in range(2))  # pages
    sets, swap = FrameSets(len(spaces)), FrameSets(len(spaces))

    references: dict[int, Reference] = defaultdict(Reference)
    others: list[list[int]] = [[] for _ in spaces]
    held = Counter(chunk for space in spaces for chunk in space.chunks.values())
    for index, space in enumerate(spaces):
        for number, chunk in space.chunks.items():
            pages = pages_of(chunk, one_space=held[chunk] == 1)
            exclusive[index] += pages.exclusive
            swap.add([index], pages.swapped)
            same, frames = references[number].add(pages.words)
            sets.add_bits(index, ~number, same)
            others[index] += frames
            shared[index] += same.bit_count() + len(frames)
    for index, frames in enumerate(others):
        sets.add([index], frames)
    _name_by_frame(sets, len(spaces), references, set(chain.from_iterable(others)))
    sizes = [sets.size(index) for index in range(len(spaces))]
    alone = sets.alone()
    for index, space in enumerate(spaces):
        if shared[index] > sizes[index]:  # it maps some frames several times
            own = min(alone[index], _mapped_by_it_alone(space))
            exclusive[index] += own
            alone[index] -= own
            sizes[index] -= own
    holders_ = tuple(
        Holder(
            space.pid,
            freed_by_exit=PAGE_BYTES * exclusive[i],
            common=PAGE_BYTES * (sizes[i] - alone[i]),
            with_others=PAGE_BYTES * alone[i],
            files=PAGE_BYTES * space.files,
            swapped=PAGE_BYTES * swap.size(i),
        )
        for i, space in enumerate(spaces)
    )
    pairs = {
        (spaces[one].pid, spaces[other].pid): PAGE_BYTES * sets.common(one, other)
        for one, other in combinations(range(len(spaces)), 2)
    }
    of_one = sum(exclusive) + sum(alone)
    by_holders = [of_one, *sets.by_holders()[1:]][: len(spaces)]
    return holders_, pairs, tuple(PAGE_BYTES * pages for pages in by_holders), sets


def _name_by_frame(
    sets: FrameSets, count: int, references: Mapping[int, Reference], others: Set[int]
) -> None:
    """Of pages that are named by their place, name those by their frame that have another place,
    too: merged ones, and those of `others`.
    """
    frames = (frame for one in references.values() for _, frame in one.frames())
    twice = others | repeated(frames).keys()
    moved: list[list[int]] = [[] for _ in range(count)]
    for number, one in references.items():
        for at, frame in one.frames() if twice else ():
            if frame in twice:
                for index, those in enumerate(moved):
                    if sets.bits(index, ~number) >> at & 1:
                        sets.take_bits(index, ~number, 1 << at)
                        those.append(frame)
    for index, those in enumerate(moved):
        sets.add([index], those)


def _mapped_by_it_alone(space: AddressSpace) -> int:
    """How many frames the process maps several times, and no other process does: merged pages."""
    shared = (shared_frames(chunk) for chunk in space.chunks.values())
    again = repeated(chain.from_iterable(shared))
    return sum(mapped_times(frame) == times + 1 for frame, times in again.items())


def _changed(spaces: Sequence[AddressSpace], zero: int, proc: Path) -> int | None:
    """Pages whose entry is another one now. None: there are too many to compare."""
    if sum(len(space.chunks) for space in spaces) * CHUNK_BYTES > _MOST_COMPARED_BYTES:
        return None
    changed = 0
    nothing = bytes(CHUNK_BYTES)
    for space in spaces:
        try:
            now = entries.read(space.pid, zero, {}, proc).chunks
        except Gone:
            now = {}  # all of its pages
        for number in now.keys() | space.chunks.keys():
            before, after = space.chunks.get(number, nothing), now.get(number, nothing)
            if before != after:
                words = zip(memoryview(before).cast("Q"), memoryview(after).cast("Q"), strict=True)
                changed += sum(old != new for old, new in words)
    return changed
