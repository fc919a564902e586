"""Rounds of detail sums -> detail rows, with mappings and stacks named when they are first seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pytest

from cowtrace.model import FaultKind, MappingType, Source, Stack, StackFrame
from cowtrace.tracer import abi, details
from cowtrace.tracer.details import DetailLedger, as_mapping
from cowtrace.tracer.rounds import Details, Round

PAGE = 4096
GONE = 4_000_000_000  # no pid
HEAP = abi.Mapping(0x9000, 0, 0, 0, MappingType.HEAP, b"\0junk")


def key(
    kind: FaultKind = FaultKind.COPIED,
    mapping: int = 0x1000,
    user: int = 0,
    kernel: int = 0,
    pid: int = GONE,
    generation: int = 0,
    latency: int = 0,
) -> abi.DetailKey:
    return abi.DetailKey(mapping, user, kernel, pid, generation, kind, Source.ANON, 0, 0, latency)


def counts(
    sums: Mapping[abi.DetailKey, tuple[int, int, int]],
    mappings: Mapping[abi.MappingKey, abi.Mapping] | None = None,
    generations: Mapping[int, abi.Generation] | None = None,
) -> Round:
    typed = {key: abi.DetailSum(*value) for key, value in sums.items()}
    details = Details(typed.items(), mappings or {}, generations or {})
    return Round(1 << 40, (1 << 40, 1 << 40), 0, {}, None, {}, details)


def no_stack(number: int, pid: int | None, processes: Mapping[int, abi.Process]) -> Stack | None:
    pytest.fail("nobody asked for a stack")


def test_rounds_add_up() -> None:
    book = DetailLedger(PAGE, no_stack)
    seen = {abi.MappingKey(0x1000, GONE): HEAP}
    book.add(counts({key(latency=12): (20, 20 * PAGE, 7000)}, seen))
    book.add(counts({key(latency=12): (3, 3 * PAGE, 900)}, seen))
    (row,) = book.rows()
    assert (row.pid, row.kind, row.faults, row.bytes) == (GONE, FaultKind.COPIED, 23, 23 * PAGE)
    assert (row.latency, row.ns) == (11, 7900)
    assert row.mapping is not None
    assert (row.mapping.type, row.mapping.start, row.mapping.end) == (
        MappingType.HEAP,
        0x1000,
        0x9000,
    )


def test_what_was_not_asked_for_is_missing() -> None:
    book = DetailLedger(PAGE, no_stack)
    book.add(counts({key(mapping=0): (1, PAGE, 0)}))
    (row,) = book.rows()
    assert (row.mapping, row.user_stack, row.kernel_stack) == (None, None, None)
    assert (row.latency, row.ns, row.generation) == (None, None, None)


def test_a_mapping_that_grows_stays_one_row() -> None:
    book = DetailLedger(PAGE, no_stack)
    book.add(counts({key(): (1, PAGE, 0)}, {abi.MappingKey(0x1000, GONE): HEAP}))
    assert [row.mapping.end for row in book.rows() if row.mapping] == [0x9000]
    book.add(
        counts({key(): (1, PAGE, 0)}, {abi.MappingKey(0x1000, GONE): HEAP._replace(end=0xF000)})
    )
    assert [row.mapping.end for row in book.rows() if row.mapping] == [0xF000]


def test_a_mapping_that_takes_the_place_of_another_has_rows_of_its_own() -> None:
    book = DetailLedger(PAGE, no_stack)
    places = [abi.MappingKey(0x1000, GONE)]
    other = key()._replace(kind=FaultKind.REUSED)
    file = HEAP._replace(type=MappingType.FILE, inode=7, name=b"file")
    book.add(counts({key(): (23, PAGE, 0), other: (5, 0, 0)}, dict.fromkeys(places, HEAP)))
    before = book.rows()
    book.add(counts({key(): (2, PAGE, 0)}, dict.fromkeys(places, file)))
    assert [(row.faults, row.mapping and row.mapping.name) for row in book.rows()] == [
        (23, ""),
        (5, ""),
        (2, "file"),
    ]
    assert [row.number for row in book.rows()[:2]] == [row.number for row in before]
    book.add(counts({key(): (3, PAGE, 0)}, dict.fromkeys(places, file._replace(end=0xF000))))
    assert [row.faults for row in book.rows()] == [23, 5, 5]
    book.forget_ended()
    assert [row.faults for row in book.rows()] == [5]
    assert book._kept == 1


def test_what_is_taken_back_stays_a_row_and_is_never_below_0() -> None:
    book = DetailLedger(PAGE, no_stack)
    places = [abi.MappingKey(0x1000, GONE)]
    file = HEAP._replace(type=MappingType.FILE, inode=7)
    taken_back = (1 << 64) - 1
    book.add(counts({key(): (1, 0, 0)}, dict.fromkeys(places, HEAP)))
    (first,) = book.rows()
    book.add(counts({key(): (taken_back, 0, 0)}))
    assert [(row.faults, row.number) for row in book.rows()] == [(0, first.number)]
    book.add(counts({key(): (1, 0, 0)}))
    assert [(row.faults, row.number) for row in book.rows()] == [(1, first.number)]
    book.add(counts({key(): (taken_back, 0, 0)}, dict.fromkeys(places, file)))
    assert [row.faults for row in book.rows()] == [1]


def test_mappings_replaced_without_end_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(details, "_MOST", 3)
    book = DetailLedger(PAGE, no_stack)
    for inode in range(1, 7):
        file = HEAP._replace(type=MappingType.FILE, inode=inode)
        book.add(counts({key(): (1, PAGE, 0)}, {abi.MappingKey(0x1000, GONE): file}))
    found = [(row.faults, row.mapping and row.mapping.inode) for row in book.rows()]
    assert found == [(1, 1), (1, 2), (1, 3), (3, 6)]
    assert book.folded == 2


def test_a_stack_is_named_once_and_kept_when_its_process_is_gone() -> None:
    asked = []

    def name(number: int, pid: int | None, processes: Mapping[int, abi.Process]) -> Stack:
        asked.append((number, pid))
        return (StackFrame(f"f{number}", "lib.so", number),)

    book = DetailLedger(PAGE, name)
    for _ in range(2):
        book.add(counts({key(user=5, kernel=6): (1, PAGE, 0)}))
    assert asked == [(5, GONE), (6, None)]
    book.close([GONE])
    (row,) = book.rows()
    assert row.user_stack == (StackFrame("f5", "lib.so", 5),)
    assert row.kernel_stack == (StackFrame("f6", "lib.so", 6),)
    assert row.faults == 2


def test_the_next_process_of_a_pid_has_mappings_of_its_own() -> None:
    book = DetailLedger(PAGE, no_stack)
    book.add(counts({key(): (1, PAGE, 0)}, {abi.MappingKey(0x1000, GONE): HEAP}))
    book.close([GONE, 1])
    # the next one of that pid has a mapping of its own at the same place
    book.add(
        counts({key(): (2, 2 * PAGE, 0)}, {abi.MappingKey(0x1000, GONE): HEAP._replace(end=0x2000)})
    )
    assert [(row.faults, row.mapping.end) for row in book.rows() if row.mapping] == [
        (1, 0x9000),
        (2, 0x2000),
    ]


def test_what_is_taken_back_in_a_later_round_leaves_no_row() -> None:
    book = DetailLedger(PAGE, no_stack)
    reused, copied = key(FaultKind.REUSED), key(FaultKind.COPIED)
    book.add(counts({reused: (1, 0, 0)}))
    book.add(counts({reused: ((1 << 64) - 1, 0, 0), copied: (1, PAGE, 0)}))
    assert [(row.kind, row.faults) for row in book.rows()] == [(FaultKind.COPIED, 1)]


def test_copies_count_to_the_generation_and_re_marks_do_not() -> None:
    book = DetailLedger(PAGE, no_stack)
    born = {5: abi.Generation(7, GONE, 100, 0, 1009, 0, 0)}
    sums = {key(generation=5): (23, 23 * PAGE, 0), key(FaultKind.REUSED, generation=5): (9, 0, 0)}
    book.add(counts(sums, generations=born))
    assert book.generations.all()[0].child_copied_bytes == 23 * PAGE
    assert {row.generation for row in book.rows()} == {1}


@pytest.mark.parametrize(("raw", "name"), [(b"a\xff\x1b[31m", "a\\xff\x1b[31m"), (b"", "")])
def test_names_of_mappings_are_whatever_they_are(raw: bytes, name: str) -> None:
    mapping = as_mapping(GONE, 0x1000, abi.Mapping(0x2000, 0, 5, 0, MappingType.FILE, raw + b"\0x"))
    assert mapping.name == name


def test_what_counted_to_forks_and_processes_that_ended_can_be_forgotten() -> None:
    book = DetailLedger(PAGE, no_stack)
    ended = abi.Generation(GONE, GONE + 1, 100, 200, 9, 0, 0)
    alive = abi.Generation(GONE, GONE + 2, 300, 0, 9, 0, 0)
    sums = {key(generation=number): (23, 23 * PAGE, 0) for number in (5, 6)}
    sums[key(pid=GONE + 1, generation=5)] = (11, 11 * PAGE, 0)
    book.add(counts(sums, generations={5: ended, 6: alive}))
    book.close([GONE + 1])
    assert book.generations.close({}) == [5]
    assert len(book.rows()) == 3
    book.forget_ended()
    assert [(row.generation, row.faults) for row in book.rows()] == [(2, 23)]
    book.add(counts({key(generation=6): (1, PAGE, 0)}, generations={6: alive}))
    assert [(row.generation, row.faults) for row in book.rows()] == [(2, 24)]


def test_of_many_details_those_that_do_not_change_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(details, "_MANY", 3)
    book = DetailLedger(PAGE, no_stack)
    keys = [key(mapping=at << 12) for at in range(1, 5)]
    maps = {abi.MappingKey(each.mapping, GONE): HEAP for each in keys}
    for some in (keys[:3], keys[:1]):  # not too many yet
        book.add(counts(dict.fromkeys(some, (1, PAGE, 0)), maps))
        book.forget_ended()
    book.add(counts(dict.fromkeys(keys[2:], (1, PAGE, 0)), maps))
    assert [row.faults for row in book.rows()] == [2, 1, 2, 1]
    book.forget_ended()
    assert [row.faults for row in book.rows()] == [2, 1]
    book.add(counts({keys[0]: (1, PAGE, 0)}, maps))
    assert [(row.faults, row.mapping is None) for row in book.rows()] == [
        (2, False),
        (1, False),
        (1, False),
    ]


def test_a_mapping_that_the_kernel_side_has_just_forgotten_is_known_for_a_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(details, "_MANY", 0)
    book = DetailLedger(PAGE, no_stack)
    used = abi.MappingKey(0x1000, GONE)
    for _ in range(2):  # what is forgotten after the first round is not noted in the second
        seen = {} if book.rows() else {used: HEAP}
        book.add(counts({key(mapping=used.start): (1, PAGE, 0)}, seen))
        assert [row.mapping is None for row in book.rows()] == [False]
        book.needless(seen)
        book.forget_ended()  # it has changed
        if seen:
            book.forget_ended()  # it has not
            assert book.rows() == ()
    book.forget_ended()
    book.add(counts({key(mapping=0x9000): (1, PAGE, 0)}))  # nothing more in that mapping
    book.needless({})
    book.forget_ended()
    assert book.mapping(GONE, used.start) is None


def test_details_of_ended_processes_can_be_folded() -> None:
    book = DetailLedger(PAGE, no_stack)
    book.add(counts({key(pid=GONE + pid): (pid, pid * PAGE, 0) for pid in range(1, 8)}))
    book.close([GONE + pid for pid in range(1, 8)])
    book.fold_ended(2)
    assert [(row.pid, row.faults) for row in book.rows()] == [(0, 15), (GONE + 6, 6), (GONE + 7, 7)]
    assert book.folded == 5


def test_mappings_without_end_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(details, "_MOST_OF_A_PROCESS", 3)
    monkeypatch.setattr(details, "_MOST", 5)
    book = DetailLedger(PAGE, no_stack)
    for pid, at in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (1, 1), (2, 2), (2, 1)):
        book.add(counts({key(pid=GONE + pid, mapping=at): (1, PAGE, 0)}))
    assert sum(row.faults for row in book.rows()) == 8
    # Of process 1 the fourth mapping is one too many, of process 2 the second: five are kept.
    assert len(book.rows()) == 6
    assert book.folded == 2


def test_paths_of_mappings_without_end_take_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def slow(call: Callable[[], bytes]) -> bytes:
        asked.append(1)
        time.sleep(0.02)
        return b"/whole/libfoo.so"

    monkeypatch.setattr(details, "in_time", slow)
    monkeypatch.setattr(details, "_PATH_SECONDS", 0.05)
    book = DetailLedger(PAGE, no_stack)
    file = abi.Mapping(0x2000, 0, 5, 0, MappingType.FILE, b"libfoo.so")
    for round_ in range(2):
        keys = [key(mapping=1000 * round_ + at) for at in range(50)]
        seen = {abi.MappingKey(each.mapping, GONE): file for each in keys}
        book.add(counts(dict.fromkeys(keys, (1, PAGE, 0)), seen))
    # Fewer where sleeping takes longer; in each round at least one.
    assert 2 <= len(asked) <= 6
    names = [row.mapping.name for row in book.rows() if row.mapping]
    assert names.count("/whole/libfoo.so") == len(asked)
    assert names.count("libfoo.so") == 100 - len(asked)


def test_forks_are_told_apart_where_they_were_asked_for() -> None:
    sums = {key(generation=number): (1, PAGE, 0) for number in (4, 5)}
    forks = {n: abi.Generation(GONE, GONE + n, 1, 2, 9, 0, 0) for n in (4, 5)}
    for by_fork, expected in ((True, [(1, 1), (2, 1)]), (False, [(None, 2)])):
        book = DetailLedger(PAGE, no_stack, by_fork=by_fork)
        book.add(counts(sums, {}, forks))
        assert sorted((row.generation, row.faults) for row in book.rows()) == expected
        assert book.generations.close({}) == [4, 5]
        book.close([])
        assert len(book.generations.all()) == (2 if by_fork else 0)


def test_mappings_that_are_known_or_not_used_are_forgotten() -> None:
    book = DetailLedger(PAGE, no_stack)
    used, early, grown = (abi.MappingKey(at, GONE) for at in (0x1000, 0x2000, 0x3000))
    sums = {key(mapping=used.start): (1, PAGE, 0), key(mapping=grown.start): (1, PAGE, 0)}
    book.add(counts(sums, {used: HEAP, early: HEAP, grown: HEAP}))
    # One of the next round, whose faults are not read yet; one that changes meanwhile.
    larger = HEAP._replace(end=0xF000)
    assert book.needless({used: HEAP, early: HEAP, grown: larger}) == {used}
    book.add(counts({key(mapping=early.start): (1, PAGE, 0)}, {early: HEAP, grown: larger}))
    assert book.needless({early: HEAP, grown: larger}) == {early, grown}
    assert book.needless({}) == set()
    assert {row.mapping.start for row in book.rows() if row.mapping} == {0x1000, 0x2000, 0x3000}


def test_generations_alone_take_no_rows() -> None:
    book = DetailLedger(PAGE, no_stack, generations_alone=True)
    made = abi.Generation(GONE, GONE + 1, 1, 0, 9, 0, 0)
    book.add(counts({key(pid=GONE, generation=4): (2, 2 * PAGE, 0)}, {}, {4: made}))
    assert book.rows() == ()
    (fork,) = book.generations.all()
    assert fork.parent_copied_bytes == 2 * PAGE
