"""analysis/forks.py and terminal/forks.py: the tree of forks, its rates, and its table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from snapshots import PAGE, SECOND, fork, process, snapshot, text

from cowtrace.analysis.forks import Trend, fork_rows, tree, trend
from cowtrace.model import Ending, ForkGeneration, Snapshot
from cowtrace.terminal.forks import view

REDIS = process(1, "redis-server")
CHILD = process(4_194_304, "redis-rdb-bgsave", parent=1)
SHELL = process(23, "sh", exited=True, parent=1)


def at(seconds: float, *generations: ForkGeneration) -> Snapshot:
    return replace(snapshot(REDIS, CHILD, SHELL, at=seconds), generations=generations)


BEFORE = at(
    2,
    fork(1, 1, 23, at=0.5, by_parent=7, ended=1.5),
    fork(2, 1, 4_194_304, at=1, shareable=25_600, by_parent=503, by_child=23),
)
NOW = at(
    3,
    fork(1, 1, 23, at=0.5, by_parent=7, ended=1.5),
    fork(
        2,
        1,
        4_194_304,
        at=1,
        shareable=25_600,
        by_parent=1009,
        by_child=23,
        fork_ns=6_707_950,
        page_table_bytes=1_191_936,
    ),
    fork(3, 4_194_304, 42, at=2.5, shareable=None),
)


def test_a_tree() -> None:
    assert (
        text(view(NOW, fork_rows([BEFORE, NOW], BEFORE), 20, {}))
        == """\
                                      PAGE AT FORK  COPIED  COPIED         WORST
PROCESS                 AGE   FORK  TABLES  SHARED  PARENT   CHILD TREND TO COME
1 redis-server
├─23 sh†               1.0s      -       - 3.91MiB 28.0KiB       0 ended       0
└─4194304 redis-rdb…   2.0s 6.71ms 1.14MiB  100MiB 3.94MiB 92.0KiB grows 96.0MiB
  └─42 ?               0.5s      -       -       -       0       0     -       -
exact: AGE, COPIED (in the plan's limits); upper bounds: SHARED, LOST, TO COME
plan kprobe, kernel 6.12.43+deb13-cloud-amd64, 3.0 s: 3 of 3 forks, 2 alive
unclassified 0, lost 0; † exited
"""
    )


def test_the_tracepoint_plans_time_of_a_fork_is_not_exact() -> None:
    shown = text(view(replace(NOW, plan="tracepoint"), fork_rows([NOW], None), 20, {}))
    assert "lower bound: FORK" in shown
    assert "lower bound: FORK" not in text(view(NOW, fork_rows([NOW], None), 20, {}))


def test_the_living_that_copied_most_are_shown_first() -> None:
    rows = fork_rows([NOW], None)
    assert [row.generation.number for row in rows] == [2, 3, 1]
    shown = text(view(NOW, rows, 1, {})).splitlines()
    assert "1 of 3 forks" in shown[-2]
    assert sum("─" in line for line in shown) == 1


def test_a_child_that_called_exec() -> None:
    now = at(3, fork(1, 1, 23, at=0.5, ended=0.75, ended_by=Ending.EXEC))
    assert "└─23 sh exec" in text(view(now, fork_rows([now], None), 20, {}))


def test_no_fork_yet() -> None:
    now = at(3)
    assert "no fork since the start" in text(view(now, fork_rows([now], None), 20, {}))


def test_a_pid_that_came_back_makes_no_circle() -> None:
    now = at(3, fork(1, 1, 2), fork(2, 2, 1), fork(3, 1, 2))
    lines = tree(fork_rows([now], None))
    assert sorted(line.row.generation.number for line in lines if line.row) == [1, 2, 3]


def test_the_rate_begins_with_the_fork() -> None:
    (row,) = fork_rows([at(1.5), now := at(2.0, fork(at=1.75, by_child=23))], at(1.5))
    assert row.rate == 23 * PAGE * 4
    assert fork_rows([now], None)[0].rate == 23 * PAGE * 4


def looks(*copied: int) -> list[tuple[int, int]]:
    """One a second, from one second after the fork on."""
    return [(8 * SECOND + second * SECOND, pages) for second, pages in enumerate(copied)]


@pytest.mark.parametrize(
    ("copied", "expected"),
    [
        ((100,), None),
        ((100, 200, 300), Trend.GROWS),
        ((100, 200, 300, 400, 500), Trend.GROWS),
        ((1000, 1010, 1020, 1025), Trend.SLOWS),
        ((10, 1000, 1010, 1020, 1025), Trend.SLOWS),  # the last three intervals alone count
        ((1000, 1000, 1000, 1000), Trend.STILL),
        ((900, 1000, 1000, 1000, 1000), Trend.STILL),
        ((0, 0), Trend.STILL),
        ((0, 0, 0, 0, 23), Trend.GROWS),
    ],
)
def test_levelling_off(copied: tuple[int, ...], expected: Trend | None) -> None:
    assert trend(fork(at=0), looks(*copied)) is expected


def test_an_ended_fork_has_no_trend() -> None:
    assert trend(fork(at=0, ended=1), looks(1, 2)) is Trend.ENDED


def test_whoever_forks_on_and_on_does_not_end_the_tracer() -> None:
    """Each child forks the next one: deeper than Python's own stack."""
    depth = 1511
    now = at(3, *(fork(n, n, n + 1, at=1 + n / 1e5, ended=2) for n in range(1, depth + 1)))
    lines = tree(fork_rows([now], None))
    assert [line.pid for line in lines] == list(range(1, depth + 2))
    assert max(len(line.branch) for line in lines) < 80
    shown = text(view(now, fork_rows([now], None), depth, {}))
    assert f"{depth:,} of {depth:,} forks" in shown
