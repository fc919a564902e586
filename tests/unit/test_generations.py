"""What the map of forks holds, round by round -> numbered fork generations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cowtrace.model import Ending
from cowtrace.tracer import abi
from cowtrace.tracer.generations import Generations

PAGE = 4096
UNKNOWN = (1 << 64) - 1


def fork(
    parent: int = 7,
    child: int = 8,
    at: int = 100,
    ended: int = 0,
    pages: int = 1009,
    previous: int = 0,
    executed: int = 0,
) -> abi.Generation:
    return abi.Generation(parent, child, at, ended, pages, previous, executed)


def process(parent: int = 0, created_by: int = 0, last_fork: int = 0) -> abi.Process:
    return abi.Process(parent, 0, 1, created_by, last_fork, b"redis")


def test_forks_are_numbered_in_the_order_of_time() -> None:
    book = Generations(PAGE)
    book.update({40: fork(at=300), 17: fork(at=200), 99: fork(at=250)})
    book.update({40: fork(at=300), 17: fork(at=200), 99: fork(at=250), 3: fork(at=400)})
    assert [g.at_ns for g in book.all()] == [200, 250, 300, 400]
    assert [g.number for g in book.all()] == [1, 2, 3, 4]
    assert [book.number(raw) for raw in (17, 99, 40, 3, 5)] == [1, 2, 3, 4, None]


def test_each_side_has_its_copies() -> None:
    book = Generations(PAGE)
    book.update({5: fork(pages=1009)})
    book.add_copied(5, 7, 23 * PAGE)
    book.add_copied(5, 8, 31 * PAGE)
    book.add_copied(5, 9, 37 * PAGE)  # no side of it
    book.add_copied(6, 7, 41 * PAGE)  # no such fork
    (generation,) = book.all()
    assert generation.parent_copied_bytes == 23 * PAGE
    assert generation.child_copied_bytes == 31 * PAGE
    assert generation.share_lost == 54 / 1009
    assert generation.worst_case_bytes == (1009 - 54) * PAGE


def test_what_was_shareable_may_be_unknown() -> None:
    book = Generations(PAGE)
    book.update({5: fork(pages=UNKNOWN)})
    (generation,) = book.all()
    assert generation.shareable_bytes is None
    assert generation.share_lost is None
    assert generation.worst_case_bytes is None


def test_what_the_call_cost() -> None:
    book = Generations(PAGE, timed=True)
    raw = fork()._replace(
        fork_ns=503, lock_ns=499, page_table_bytes=23 * PAGE, copied_pages=0, first_second_ns=(7, 0)
    )
    book.update({5: raw, 6: fork(at=200)})
    first, second = book.all()
    assert (first.fork_ns, first.lock_ns, first.page_table_bytes) == (503, 499, 23 * PAGE)
    assert (first.fork_copied_bytes, first.first_second_ns, first.stall_ns) == (0, 7, 510)
    assert (second.fork_ns, second.lock_ns, second.page_table_bytes) == (None, None, None)
    assert (second.fork_copied_bytes, second.first_second_ns, second.stall_ns) == (None, 0, None)


def test_the_first_second_is_that_of_rounds_that_have_ended() -> None:
    book = Generations(PAGE, timed=True)
    seen = []
    # By half: the other one is of the round that has begun, when it is read.
    for half, sums in enumerate([(7, 0), (11, 13), (17, 19), (17, 23), (17, 23), (17, 23)]):
        book.update({5: fork()._replace(first_second_ns=sums)}, half=half & 1)
        seen.append(book.all()[0].first_second_ns)
    assert seen == [7, 7 + 13, 13 + 17, 17 + 23, 17 + 23, 17 + 23]


def test_without_times_of_faults_no_stall_is_known() -> None:
    book = Generations(PAGE)
    book.update({5: fork()._replace(fork_ns=503)})
    (generation,) = book.all()
    assert (generation.fork_ns, generation.first_second_ns) == (503, None)
    assert generation.stall_ns is None


def test_exec_and_exit_end_it() -> None:
    book = Generations(PAGE)
    book.update({5: fork(), 6: fork(child=9)})
    book.update({5: fork(ended=500, executed=1), 6: fork(child=9, ended=600)})
    first, second = book.all()
    assert (first.ended_ns, first.ended_by) == (500, Ending.EXEC)
    assert (second.ended_ns, second.ended_by) == (600, Ending.EXIT)
    assert first.worst_case_bytes == 0


def test_what_came_after_the_round_waits_for_its_copies() -> None:
    book = Generations(PAGE)
    book.update(
        {5: fork(at=100, ended=500), 6: fork(at=300, child=9, previous=5, ended=400)}, (199, 200)
    )
    (first,) = book.all()
    assert (first.number, first.ended_ns) == (1, None)
    assert book.close({}) == []
    book.update(
        {5: fork(at=100, ended=500), 6: fork(at=300, child=9, previous=5, ended=400)}, (450, 550)
    )
    first, second = book.all()
    assert (first.ended_ns, second.ended_ns) == (None, 400)
    book.add_copied(6, 9, 23 * PAGE)
    assert book.close({}) == [6]
    assert book.all()[1].child_copied_bytes == 23 * PAGE


def test_a_fork_that_came_after_the_round_leads_to_those_before_it() -> None:
    book = Generations(PAGE)
    book.update({5: fork(ended=150)}, (200, 200))
    book.update({5: fork(ended=150), 6: fork(at=300, child=9, previous=5)}, (250, 250))
    assert book.close({}) == []


def test_an_ended_one_is_kept_as_long_as_something_leads_through_it() -> None:
    book = Generations(PAGE)
    forks = {5: fork(ended=500), 6: fork(child=9, previous=5)}
    book.update(forks)
    assert book.close({7: process(last_fork=6)}) == []  # 6 leads to 5
    forks[6] = fork(child=9, previous=5, ended=600)
    book.update(forks)
    assert book.close({7: process(last_fork=6)}) == []  # the parent leads to 6
    assert book.close({9: process(created_by=6)}) == []  # the child is not forgotten yet
    assert book.close({}) == [5, 6]
    assert [g.number for g in book.all()] == [1, 2]
    assert book.number(5) is not None


@given(st.lists(st.integers(-50, 50), max_size=20))
def test_what_is_taken_back_is_taken_back(pages: list[int]) -> None:
    book = Generations(PAGE)
    book.update({5: fork()})
    for number in pages:
        book.add_copied(5, 7, number * PAGE)
    assert book.all()[0].parent_copied_bytes == sum(pages) * PAGE


def test_the_same_tuple_as_long_as_nothing_changes() -> None:
    book = Generations(PAGE)
    book.update({5: fork()})
    before = book.all()
    book.update({5: fork()})
    assert book.all() is before


def test_those_that_are_done_can_be_forgotten() -> None:
    book = Generations(PAGE)
    book.update({5: fork(at=100, ended=200), 6: fork(at=300)})
    assert book.close({}) == [5]
    assert [g.number for g in book.all()] == [1, 2]
    assert book.forget_ended() == {5}
    assert [g.number for g in book.all()] == [2]
    assert (book.number(5), book.number(6)) == (None, 2)
    book.update({6: fork(at=300), 7: fork(at=400)})
    assert [g.number for g in book.all()] == [2, 3]
    assert book.forget_ended() == set()
