"""Frame numbers before and after: what they show and what stays unknown."""

from __future__ import annotations

import mmap

import pytest

from cowtrace.frames.words import address_of
from cowtrace.workloads import pagemap
from cowtrace.workloads.outcome import Counts
from cowtrace.workloads.region import Backing

ZERO = 5
PRESENT = 1 << 63
FILE = PRESENT | 1 << 61
SOFT_DIRTY = 1 << 55  # and bit 56: change with no copy, so they must not be taken for frames
ABSENT = 0


def changes(
    before: int, after: int, backing: Backing = Backing.ANONYMOUS, *, written: bool = True
) -> Counts:
    return pagemap.changes([before], [after], backing=backing, zero=ZERO, written=written)


@pytest.mark.parametrize(
    ("before", "after", "backing", "wanted"),
    [
        (PRESENT | 8, PRESENT | 9, Backing.ANONYMOUS, Counts(copied=1)),
        (PRESENT | 8, PRESENT | 8, Backing.ANONYMOUS, Counts(reused=1)),
        (PRESENT | 8, PRESENT | SOFT_DIRTY | 8, Backing.ANONYMOUS, Counts(reused=1)),
        (PRESENT | ZERO, PRESENT | 9, Backing.ANONYMOUS, Counts(zero_filled=1)),
        (ABSENT, PRESENT | 9, Backing.ANONYMOUS, Counts()),  # a first touch copies nothing
        (ABSENT, PRESENT | 9, Backing.PRIVATE_FILE, Counts(file_copied=1)),
        (ABSENT, FILE | 9, Backing.PRIVATE_FILE, Counts()),  # the file's own page: not copied
        (FILE | 8, PRESENT | 9, Backing.PRIVATE_FILE, Counts(copied=1)),
        (ABSENT, FILE | 9, Backing.SHARED_ANONYMOUS, Counts(shared=1)),
        (FILE | 9, FILE | 9, Backing.SHARED_ANONYMOUS, Counts(shared=None)),
        (FILE | 8, FILE | 9, Backing.SHARED_ANONYMOUS, Counts(copied=1)),  # must never happen
        (PRESENT | 8, ABSENT, Backing.ANONYMOUS, Counts(copied=1)),  # nor this: shown, not hidden
        (PRESENT | 8, 8, Backing.ANONYMOUS, Counts(copied=1)),  # swapped out to an entry like it
    ],
)
def test_a_written_page(before: int, after: int, backing: Backing, wanted: Counts) -> None:
    assert changes(before, after, backing) == wanted


@pytest.mark.parametrize("backing", Backing)
def test_a_page_that_was_only_read(backing: Backing) -> None:
    assert changes(PRESENT | 8, PRESENT | 8, backing, written=False) == Counts()
    assert changes(ABSENT, PRESENT | ZERO, backing, written=False) == Counts()
    assert changes(PRESENT | 8, PRESENT | 9, backing, written=False) == Counts(copied=1)


def test_pages_add_up() -> None:
    before = [PRESENT | 8, PRESENT | 10, PRESENT | ZERO]
    after = [PRESENT | 9, PRESENT | 10, PRESENT | 11]
    found = pagemap.changes(before, after, backing=Backing.ANONYMOUS, zero=ZERO, written=True)
    assert found == Counts(copied=1, zero_filled=1, reused=1)


def test_entries_of_this_very_process() -> None:
    """Needs no rights: presence is shown to everyone, only frames are not."""
    with mmap.mmap(-1, 4 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages[mmap.PAGESIZE] = 1
        first = address_of(pages)
        entries = pagemap.read_entries(first, 4)
    assert [bool(entry & PRESENT) for entry in entries] == [False, True, False, False]
