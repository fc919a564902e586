"""Tell what became of each page between two readings: the causes add up to the difference."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace.frames import changes as module
from cowtrace.frames.changes import after_fork, changes
from cowtrace.frames.entries import AddressSpace
from cowtrace.frames.words import CHUNK_PAGES, EXCLUSIVE, PRESENT, SWAPPED, ZERO_PAGE
from cowtrace.model import Cause

SHARED, ALONE, SWAP = PRESENT << 56, (PRESENT | EXCLUSIVE) << 56, SWAPPED << 56
PAGES = 1031
FILE_PAGES = 23  # the first pages are a private mapping of a file
NONE = Counter[Cause]()
WORDS = st.one_of(
    st.just(0),
    st.just(ZERO_PAGE),
    st.integers(2, 40).map(lambda frame: SHARED | frame),
    st.integers(2, 40).map(lambda frame: ALONE | frame),
    st.integers(0, 9).map(lambda place: SWAP | place << 5),
)
SPACES = st.dictionaries(st.integers(0, PAGES - 1), WORDS, max_size=40)


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_merged_known", lambda: False)
    monkeypatch.setattr(module, "is_huge_page", lambda chunk: False)


def space(words: dict[int, int], mapped: int = PAGES) -> AddressSpace:
    made = AddressSpace(7, mappings=[(0, FILE_PAGES, True), (FILE_PAGES, mapped, False)])
    for number in {page // CHUNK_PAGES for page, word in words.items() if word}:
        chunk = [words.get(number * CHUNK_PAGES + at, 0) for at in range(CHUNK_PAGES)]
        made.chunks[number] = struct.pack(f"={CHUNK_PAGES}Q", *chunk)
    return made


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        (0, ALONE | 7, Cause.TOUCHED),
        (ZERO_PAGE, ALONE | 7, Cause.ZERO_FILLED),
        (SHARED | 7, ALONE | 7, Cause.LEFT_ALONE),
        (SHARED | 7, ALONE | 8, Cause.REPLACED),
        (SWAP | 32, ALONE | 8, Cause.SWAPPED_IN),
        (ALONE | 7, 0, Cause.GIVEN_BACK),
        (ALONE | 7, ZERO_PAGE, Cause.GIVEN_BACK),
        (ALONE | 7, SWAP | 32, Cause.SWAPPED_OUT),
        (ALONE | 7, SHARED | 7, Cause.SHARED_BY_FORK),
        (ALONE | 7, SHARED | 8, Cause.MERGED),
        (ALONE | 7, ALONE | 8, None),
        (SHARED | 7, 0, None),
        (SHARED | 7, SHARED | 8, None),
        (0, SHARED | 8, None),
        (0, SWAP | 32, None),
    ],
)
def test_a_page_has_one_cause(before: int, after: int, cause: Cause | None) -> None:
    found = changes(space({509: before}), space({509: after}))
    assert found == (Counter({cause: 1}) if cause else NONE)


def test_where_the_mapping_is_tells_more() -> None:
    assert changes(space({}), space({7: ALONE | 7})) == {Cause.FROM_FILE: 1}
    assert changes(space({900: ALONE | 7}), space({}, mapped=800)) == {Cause.UNMAPPED: 1}


def test_a_page_that_moves_is_no_change() -> None:
    assert changes(space({30: ALONE | 7, 31: ALONE | 8}), space({990: ALONE | 7})) == {
        Cause.GIVEN_BACK: 1
    }


def test_a_huge_page_in_place_of_small_ones_is_collapsed(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = {CHUNK_PAGES + at: ALONE | 1024 + at for at in range(CHUNK_PAGES)}
    small = {CHUNK_PAGES: SHARED | 7, CHUNK_PAGES + 1: ALONE | 9, CHUNK_PAGES + 2: ZERO_PAGE}
    huge_chunk = space(huge).chunks[1]
    monkeypatch.setattr(module, "is_huge_page", lambda chunk: chunk == huge_chunk)
    assert changes(space(small), space(huge)) == {Cause.COLLAPSED: CHUNK_PAGES - 1}
    assert changes(space({}), space(huge)) == {Cause.TOUCHED: CHUNK_PAGES}


def test_the_kernel_tells_what_it_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_merged_known", lambda: True)
    monkeypatch.setattr(module, "is_merged", {7: True, 8: False}.__getitem__)
    before, after = {30: ALONE | 7, 31: ALONE | 9}, {30: SHARED | 7, 31: SHARED | 8}
    assert changes(space(before), space(after)) == {Cause.MERGED: 1, Cause.SHARED_BY_FORK: 1}


def test_a_child_begins_with_all_of_its_parents_pages() -> None:
    parent = space({30: ALONE | 7, 31: SHARED | 8, 32: SWAP | 32, 33: ZERO_PAGE})
    child = after_fork(parent, parent)
    assert changes(child, space({30: ALONE | 7, 31: ALONE | 9})) == {
        Cause.LEFT_ALONE: 1,
        Cause.REPLACED: 1,
    }
    assert changes(child, child) == NONE


def test_what_the_parent_touched_before_the_fork_is_its_childs_too() -> None:
    """It was read before that, and after it copied one of the pages."""
    before, after = space({30: ALONE | 7}), space({30: ALONE | 9, 31: ALONE | 8, 900: SHARED | 5})
    child = space({30: ALONE | 7, 31: ALONE | 10, 900: ALONE | 11})
    assert changes(after_fork(before, after), child) == {Cause.LEFT_ALONE: 1, Cause.REPLACED: 2}


def private(words: dict[int, int]) -> int:
    return sum(word >> 56 == PRESENT | EXCLUSIVE for word in words.values())


@given(SPACES, SPACES)
def test_the_causes_add_up(before: dict[int, int], after: dict[int, int]) -> None:
    found = changes(space(before), space(after))
    gained = sum(-pages if cause.takes else pages for cause, pages in found.items())
    assert gained == private(after) - private(before)
    assert all(pages > 0 for pages in found.values())
