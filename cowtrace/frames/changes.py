"""Find out what became of each page between two readings of a process: by its frames."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator

from cowtrace.frames.entries import AddressSpace
from cowtrace.frames.words import (
    CHUNK_BYTES,
    CHUNK_PAGES,
    EXCLUSIVE,
    FRAME,
    PRESENT,
    SWAPPED,
    ZERO_PAGE,
    is_huge_page,
    is_merged,
    is_merged_known,
)
from cowtrace.model import Cause

_NOTHING = bytes(CHUNK_BYTES)
_ALONE = PRESENT | EXCLUSIVE
_WITHOUT_MARK = ~(EXCLUSIVE << 56)


def changes(before: AddressSpace, after: AddressSpace) -> Counter[Cause]:
    """How many pages became private, or ceased to be, by cause. Without pages of files.

    A page that moved to another address, as by mremap(), is none.
    """
    found: Counter[Cause] = Counter()
    gone: dict[int, Cause] = {}  # frames that were private, and are not at that address
    new: dict[int, Cause] = {}
    mappings = _Mappings(after)
    merged = is_merged if is_merged_known() else None
    for number, old, now in _changed_chunks(before, after):
        collapsed = is_huge_page(now) and not is_huge_page(old) and old != _NOTHING
        pairs = zip(memoryview(old).cast("Q"), memoryview(now).cast("Q"), strict=True)
        for at, (was, word) in enumerate(pairs):
            if was == word:
                continue
            was_private, is_private = was >> 56 == _ALONE, word >> 56 == _ALONE
            if is_private and not was_private:
                cause = _gain(was, word, collapsed)
                if cause is Cause.TOUCHED:
                    if mappings.of_file(number * CHUNK_PAGES + at):
                        cause = Cause.FROM_FILE
                    new[word & FRAME] = cause
                found[cause] += 1
            elif was_private and not is_private:
                cause = _loss(was, word, merged)
                if not word:
                    if not mappings.has(number * CHUNK_PAGES + at):
                        cause = Cause.UNMAPPED
                    gone[was & FRAME] = cause
                found[cause] += 1
    for frame in gone.keys() & new.keys():
        found[gone[frame]] -= 1
        found[new[frame]] -= 1
    return +found


def after_fork(before: AddressSpace, after: AddressSpace) -> AddressSpace:
    """What a child maps when it is forked: all of its parent's pages, none of them private.

    As the parent was last read before the fork; what it touched since, as it was read after.
    """
    chunks = dict(after.chunks)
    for number, chunk in before.chunks.items():
        later = after.chunks.get(number, chunk)
        chunks[number] = chunk if chunk == later else _first(chunk, later)
    forked = {
        number: _shared(chunk) if _ALONE in chunk[7::8] else chunk
        for number, chunk in chunks.items()
    }
    return AddressSpace(before.pid, forked, mappings=after.mappings)


def _first(before: bytes, after: bytes) -> bytes:
    """The words of `before`, where there is none those of `after`."""
    pairs = zip(memoryview(before).cast("Q"), memoryview(after).cast("Q"), strict=True)
    return array("Q", (was or word for was, word in pairs)).tobytes()


def _shared(chunk: bytes) -> bytes:
    words = bytearray(chunk)
    for at in range(7, CHUNK_BYTES, 8):
        if words[at] == _ALONE:
            words[at] = PRESENT
    return bytes(words)


def _changed_chunks(
    before: AddressSpace, after: AddressSpace
) -> Iterator[tuple[int, bytes, bytes]]:
    for number in before.chunks.keys() | after.chunks.keys():
        old = before.chunks.get(number, _NOTHING)
        now = after.chunks.get(number, _NOTHING)
        if old != now:
            yield number, old, now


def _gain(was: int, word: int, collapsed: bool) -> Cause:
    if was & _WITHOUT_MARK == word & _WITHOUT_MARK:
        return Cause.LEFT_ALONE
    if collapsed:
        return Cause.COLLAPSED
    if was == ZERO_PAGE:
        return Cause.ZERO_FILLED
    if not was:
        return Cause.TOUCHED
    return Cause.SWAPPED_IN if was >> 56 & SWAPPED else Cause.REPLACED


def _loss(was: int, word: int, is_merged: Callable[[int], bool] | None) -> Cause:
    if word >> 56 & SWAPPED:
        return Cause.SWAPPED_OUT
    if not word >> 56 & PRESENT:  # none, or the zero page
        return Cause.GIVEN_BACK
    if is_merged is None:  # else it was given back, touched again and shared
        return Cause.SHARED_BY_FORK if was & FRAME == word & FRAME else Cause.MERGED
    return Cause.MERGED if is_merged(word & FRAME) else Cause.SHARED_BY_FORK


class _Mappings:
    """The mappings of a process, by page number."""

    def __init__(self, space: AddressSpace) -> None:
        self._mappings = sorted(space.mappings)
        self._starts = [start for start, _, _ in self._mappings]

    def has(self, page: int) -> bool:
        return self._at(page) is not None

    def of_file(self, page: int) -> bool:
        """Whether it lies in a private mapping of a file."""
        found = self._at(page)
        return found is not None and found[2]

    def _at(self, page: int) -> tuple[int, int, bool] | None:
        index = bisect_right(self._starts, page) - 1
        if index >= 0 and page < self._mappings[index][1]:
            return self._mappings[index]
        return None
