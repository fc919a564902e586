"""Compare the entries of processes of the test's making; sets of frames say the same."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_frame_entries import ANON, FILE, ZERO, line, made

from cowtrace.analysis import shared
from cowtrace.analysis.shared import Sharing, read
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.frames import entries
from cowtrace.frames import words as frame_words
from cowtrace.frames.entries import AddressSpace
from cowtrace.frames.words import CHUNK_PAGES, PAGE_BYTES, Chunk

EXCLUSIVE, SOFT_DIRTY, SWAPPED, MARKER = 1 << 56, 1 << 55, 0x40 << 56, 30
PAGES = 1031  # two chunks and some
# What processes map, by page number: frames, a few of them several times.
MAPPED = st.dictionaries(st.integers(0, PAGES - 1), st.integers(1, 30), max_size=40)
OTHER = st.dictionaries(
    st.integers(0, PAGES - 1),
    st.integers(1, 30).map(lambda frame: FILE | 1000 + frame)
    | st.integers(1, 30).map(lambda place: SWAPPED | place << 5)
    | st.just(SWAPPED | 7 << 5 | MARKER)
    | st.just(ANON | ZERO),
    max_size=9,
)


@pytest.fixture(autouse=True)
def frames_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "zero_frame", lambda: ZERO)
    # Each frame is mapped by some process that is not read as well.
    monkeypatch.setattr(shared, "mapped_times", lambda frame: 1 << 20)


def compared(proc: Path, *processes: dict[int, int]) -> Sharing:
    for pid, words in enumerate(processes, 1):
        made(proc, pid, line(0, PAGES), words)
    return read(range(1, len(processes) + 1), proc)


@given(st.lists(st.tuples(MAPPED, OTHER), min_size=1, max_size=4), st.sets(st.integers(1, 30)))
def test_it_is_what_sets_say(
    tmp_path_factory: pytest.TempPathFactory,
    processes: list[tuple[dict[int, int], dict[int, int]]],
    mapped_elsewhere: set[int],
) -> None:
    """`mapped_elsewhere`: frames that a process maps that is not read."""
    times = Counter(frame for mapped, _ in processes for frame in mapped.values())
    times += Counter(mapped_elsewhere)

    def word(page: int, frame: int) -> int:
        mark = EXCLUSIVE if times[frame] == 1 else 0
        return ANON | mark | frame | (SOFT_DIRTY if page % 3 == 0 else 0)

    made_of = [
        {**other, **{page: word(page, frame) for page, frame in mapped.items()}}
        for mapped, other in processes
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "mapped_times", times.__getitem__)
        found = compared(tmp_path_factory.mktemp("proc"), *made_of)
    own = [set(mapped.values()) for mapped, _ in processes]
    holders = Counter(frame for frames in own for frame in frames)
    for held, frames, words in zip(found.holders, own, made_of, strict=True):
        common = {frame for frame in frames if holders[frame] > 1}
        with_others = (frames - common) & mapped_elsewhere
        files = sum(word >> 56 == 0xA0 for word in words.values())
        swapped = {word for word in words.values() if word >> 56 == 0x40 and not word & 0x1F}
        assert held.freed_by_exit == PAGE_BYTES * len(frames - common - with_others)
        assert held.common == PAGE_BYTES * len(common)
        assert held.with_others == PAGE_BYTES * len(with_others)
        assert held.files == PAGE_BYTES * files
        assert held.swapped == PAGE_BYTES * len(swapped)
    for one, other in combinations(range(len(own)), 2):
        assert found.pairs[one + 1, other + 1] == PAGE_BYTES * len(own[one] & own[other])
    exactly = Counter(holders.values())
    expected = (PAGE_BYTES * exactly[number] for number in range(1, len(own) + 1))
    assert found.by_holders == tuple(expected)
    assert found.anonymous == PAGE_BYTES * len(holders)
    assert (found.changed, found.ended, found.unread) == (0, (), 0)


def test_processes_that_share_their_memory_free_none_of_it(tmp_path: Path) -> None:
    """As a child of vfork and its parent: the kernel counts one mapping."""
    words = {page: ANON | EXCLUSIVE | 100 + page for page in range(23)}
    found = compared(tmp_path, words, words, {0: ANON | EXCLUSIVE | 7})
    assert [held.freed_by_exit // PAGE_BYTES for held in found.holders] == [0, 0, 1]
    assert found.pairs[1, 2] == 23 * PAGE_BYTES
    assert found.by_holders == (PAGE_BYTES, 23 * PAGE_BYTES, 0)


def huge(first: int, mark: int = 0) -> dict[int, int]:
    return {page: ANON | mark | first + page for page in range(CHUNK_PAGES)}


def kernel_counts(
    monkeypatch: pytest.MonkeyPatch, flags: int, counts: dict[int, int] | None = None
) -> None:
    def words(path: Path, first: int, count: int) -> tuple[int, ...]:
        if path == frame_words._KPAGEFLAGS:
            return (flags,) * count
        return tuple((counts or {}).get(frame, 2) for frame in range(first, first + count))

    monkeypatch.setattr(frame_words, "mapped_words", words)


def test_the_huge_zero_page_counts_for_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_counts(monkeypatch, frame_words._KPF_ZERO_PAGE)
    (held,) = compared(tmp_path, huge(1024)).holders
    assert (held.with_others, held.files, held.freed_by_exit) == (0, 0, 0)


def test_a_huge_page_of_a_file_is_one_though_its_entries_do_not_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_counts(monkeypatch, 0)
    (held,) = compared(tmp_path, huge(1024)).holders
    assert (held.with_others, held.files) == (0, CHUNK_PAGES * PAGE_BYTES)


@pytest.mark.parametrize("copied", [0, 7])
@pytest.mark.parametrize("marked", [True, False])
def test_each_page_of_a_huge_page_has_its_own_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: int, marked: bool
) -> None:
    """A child copied one page. Old kernels mark all 512 by the first: then it was that, unless it
    was copied after the mark was read."""
    kernel_counts(monkeypatch, frame_words._KPF_ANON, {1024 + copied: 1})
    parent = huge(1024, EXCLUSIVE if copied == 0 and marked else 0)
    child = {page: ANON | 1024 + page for page in range(CHUNK_PAGES) if page != copied}
    found = compared(tmp_path, parent, child | {copied: ANON | EXCLUSIVE | 9})
    assert [held.freed_by_exit // PAGE_BYTES for held in found.holders] == [1, 1]
    assert found.pairs[1, 2] == (CHUNK_PAGES - 1) * PAGE_BYTES


def test_a_mean_of_a_huge_page_is_not_taken_for_the_count_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONFIG_NO_PAGE_MAPCOUNT: the kernel says 1, and that it is not exclusive."""
    kernel_counts(
        monkeypatch, frame_words._KPF_ANON, {1024 + page: 1 for page in range(CHUNK_PAGES)}
    )
    (held,) = compared(tmp_path, huge(1024)).holders
    assert (held.freed_by_exit, held.with_others) == (0, CHUNK_PAGES * PAGE_BYTES)


def test_one_that_ends_meanwhile_is_named(tmp_path: Path) -> None:
    made(tmp_path, 1, line(0, 1), {0: ANON | 7})
    found = read([1, 2], tmp_path)
    assert [held.pid for held in found.holders] == [1]
    assert found.ended == (2,)


def test_hidden_frames_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "zero_frame", lambda: None)
    with pytest.raises(CowtraceError, match="hidden") as raised:
        read([1])
    assert raised.value.exit_code == EXIT_NO_PLAN


def test_another_users_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, zero: int, same: object, proc: Path, *, names: bool) -> AddressSpace:
        raise PermissionError(13, "refused")

    monkeypatch.setattr(entries, "read", refuse)
    with pytest.raises(CowtraceError, match="process 7 are hidden"):
        read([7])


def test_what_changes_while_others_are_read_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, 1, line(0, PAGES), {0: ANON | 7, 1: ANON | 8, 2: ANON | 5, 600: ANON | 9})
    later = {0: ANON | SOFT_DIRTY | 7, 1: ANON | 10, 2: ANON | EXCLUSIVE | 5}
    made(tmp_path, 2, line(0, PAGES), later)
    once = entries.read
    looks = 0

    def read_then(
        pid: int, zero: int, same: dict[bytes, Chunk], proc: Path, *, names: bool = False
    ) -> AddressSpace:
        nonlocal looks
        looks += 1
        return once(2 if looks == 2 else 1, zero, same, proc)

    monkeypatch.setattr(entries, "read", read_then)
    # Page 1 has another frame, page 2 no other holder any more, page 600 none.
    assert read([1], tmp_path).changed == 3
    monkeypatch.setattr(shared, "_MOST_COMPARED_BYTES", 4095)
    assert read([1], tmp_path).changed is None


def test_mappings_are_told_apart_by_name(tmp_path: Path) -> None:
    maps = line(0, 4, name="[heap]") + line(8, 4) + line(12, 2) + line(600, 3, name="/srv/a b\x1b")
    own = {0: ANON | EXCLUSIVE | 7, 8: ANON | EXCLUSIVE | 8, 13: ANON | EXCLUSIVE | 9}
    common = {1: ANON | 10, 9: ANON | 11, 600: ANON | 12}
    with_others = {601: ANON | 13, 2: ANON | ZERO}
    made(tmp_path, 1, maps, own | common | with_others)
    made(tmp_path, 2, line(0, 1000), common)
    found = read([1, 2], tmp_path, mappings=True)
    assert found.mappings is not None
    told = {
        (each.pid, each.name): tuple(
            size // PAGE_BYTES for size in (each.freed_by_exit, each.common, each.with_others)
        )
        for each in found.mappings
    }
    assert told == {
        (1, "[heap]"): (1, 1, 0),
        (1, "[anon]"): (2, 1, 0),
        (1, "a b\x1b"): (0, 1, 1),
        (2, "[anon]"): (0, 3, 0),
    }
    assert read([1, 2], tmp_path).mappings is None


def test_mappings_of_memory_that_two_processes_share_free_nothing(tmp_path: Path) -> None:
    words = {page: ANON | EXCLUSIVE | 100 + page for page in range(23)}
    for pid in (1, 2):
        made(tmp_path, pid, line(0, PAGES), words)
    found = read([1, 2], tmp_path, mappings=True)
    assert [(each.freed_by_exit, each.common // PAGE_BYTES) for each in found.mappings or ()] == [
        (0, 23), (0, 23)
    ]  # fmt: skip
