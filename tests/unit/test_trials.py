"""The comparison of variants: intervals, what they say where there is nothing, and the table."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from made_recordings import write

from cowtrace.analysis import intervals
from cowtrace.analysis.questions.answer import Unit
from cowtrace.analysis.trials import (
    UNITS,
    Comparison,
    Difference,
    Peak,
    Run,
    compare,
    doubts,
    run_of,
)
from cowtrace.errors import CowtraceError
from cowtrace.recording.reader import read
from cowtrace.terminal.trials import trials_text, words
from cowtrace.text import COLUMNS

pytest.importorskip("scipy", reason="scipy is not installed: pip install scipy")


def runs(values: Sequence[float | None], name: str = "copied", **more: bool) -> list[Run]:
    """Runs whose other quantities are missing."""
    return [
        Run(block, {**dict.fromkeys(UNITS), name: value}, more.get("complete", True))
        for block, value in enumerate(values, 1)
    ]


def test_a_difference_is_shown_with_its_interval() -> None:
    base, other = [100, 101, 99, 100, 102, 98, 100], [50, 51, 49, 50, 52, 48, 50]
    low, high = intervals.interval(base, other, 0.95, seed=1)
    assert -0.54 < low < -0.5 < high < -0.46
    assert intervals.interval(base, other, 0.95, seed=1) == (low, high)
    wider = intervals.interval(base, other, 0.999, seed=1)
    assert wider[0] < low < high < wider[1]


def test_noise_is_no_difference() -> None:
    low, high = intervals.interval([100, 110, 90, 105, 97], [101, 108, 92, 104, 96], 0.95, seed=1)
    assert low < 0 < high


@pytest.mark.parametrize(("other", "change"), [([23.0] * 5, 0.0), ([46.0] * 5, 1.0)])
def test_exact_counts_need_no_interval(other: list[float], change: float) -> None:
    assert intervals.interval([23.0] * 5, other, 0.95, seed=1) == (change, change)


def test_a_page_more_in_each_run_is_no_difference() -> None:
    (found,) = compare({"a": runs([6524] * 5), "b": runs([6527] * 5)}, seed=1)
    row = found.differences[0]
    assert not row.is_shown
    assert words(row) == "no difference shown (+0.05%)"
    (found,) = compare({"a": runs([500] * 5), "b": runs([503] * 5)}, seed=1)
    assert words(found.differences[0]) == "+0.6% in each run"


def test_of_a_base_with_nothing_the_difference_counts() -> None:
    base, other = [0.0, 0, 0, 0, 1], [100.0, 101, 99, 100, 102]
    low, high = intervals.interval(base, other, 0.95, seed=1)
    assert 90 < low < 100 < high < 110
    assert not intervals.is_relative(base)


def test_without_scipy_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(CowtraceError, match="scipy, which is not installed") as raised:
        intervals.require()
    assert "cowtrace[try]" in raised.value.hint


@pytest.mark.parametrize("skewed", [False, True])
def test_a_command_against_itself_seldom_differs(
    skewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 5 % of trials at most, for all rows together. Seeded: it never fails by chance."""
    monkeypatch.setattr(intervals, "_RESAMPLES", 4_999)  # the more, the wider
    chance = random.Random(23)

    def draw() -> float:
        return chance.lognormvariate(0, 0.5) if skewed else chance.gauss(100, 5)

    wrong = 0
    for _ in range(40):
        groups = {
            name: [Run(block, {each: draw() for each in UNITS}, True) for block in range(1, 8)]
            for name in ("plain", "other")
        }
        (found,) = compare(groups, seed=1)
        wrong += any(row.is_shown for row in found.differences)
    assert wrong <= 4


def test_what_one_run_lacks_is_not_compared() -> None:
    (found,) = compare({"a": runs([1, 2, None, 4, 5]), "b": runs([1, 2, 3, 4, 5])}, seed=1)
    row = found.differences[0]
    assert (row.base, row.value, row.change, row.low) == (None, 3, None, None)
    assert words(row) == "-"
    assert found.verdict == "b against a: too few runs to tell."


def test_few_runs_have_means_only() -> None:
    groups = {"a": runs([10, 12]), "b": runs([5, 6, 7])}
    (found,) = compare(groups, seed=1)
    row = found.differences[0]
    assert (row.base, row.value, row.low, row.is_shown) == (11, 6, None, False)
    assert words(row) == "-45.5% (too few runs)"
    assert [*doubts(groups)] == ["2 runs of a variant: an interval takes 5 of each."]


def test_lost_faults_are_a_doubt() -> None:
    groups = {"a": runs([1] * 5), "b": runs([1] * 5, complete=False)}
    assert [*doubts(groups)] == ["5 of 5 runs of b lost faults, or could not classify some."]


def test_a_run_that_was_too_short_for_a_sample_is_named() -> None:
    groups = {"a": runs([1, None, 1, 1, 1], "peak memory"), "b": runs([None] * 5, "peak memory")}
    assert [*doubts(groups)] == ["1 of 5 runs of a ended before memory was sampled."]


def test_a_verdict_names_copies_and_time() -> None:
    made = [
        Run(block, {**dict.fromkeys(UNITS), "copied": 1000.0, "wall time": 5e9 + block}, True)
        for block in range(5)
    ]
    better = [Run(r.block, {**r.values, "copied": 400.0}, True) for r in made]
    (found,) = compare({"plain": made, "fixed": better}, seed=1)
    assert found.verdict == (
        "fixed copied 60.0% less (at least 60.0%) than plain; no difference shown in time."
    )


def test_a_recording_has_all_that_is_compared_but_the_peak(tmp_path: Path) -> None:
    run = run_of(read(write(tmp_path / "f")), Peak(5, 3), block=2)
    assert run.values["copied"] == 12 * (23 + 11) * 4096
    assert run.values["re-marked faults"] == 12
    assert run.values["zero-filled"] == 0
    assert run.values["time in write faults"] == 12 * 23 * 2100 + 5
    assert (run.values["peak memory"], run.values["peak private memory"]) == (5, 3)
    assert run.values["wall time"]
    assert run.complete
    assert run.block == 2


def test_what_was_not_recorded_is_missing(tmp_path: Path) -> None:
    details = frozenset({"generation"})
    run = run_of(read(write(tmp_path / "f", details=details, lost=3)), Peak(), block=1)
    assert run.values["time in write faults"] is None
    assert run.values["peak memory"] is None
    assert not run.complete


TABLE = """\
fixed against plain: no difference shown in copied bytes; no difference shown in
time.
7 runs of each.
plain: ./job
! A doubt.

                         plain     fixed  DIFFERENCE
copied                1.00 MiB   512 KiB  -50.0% (-60.0 to -40.0%)
zero-filled                  0  8.00 KiB  +8.00 KiB (+4.00 KiB to +12.0 KiB)
re-marked faults        12,345    12,345  no difference shown (-99.9 to +123.4%)
time in write faults         -         -  -
peak memory           4.00 KiB  4.00 KiB  no difference shown (all the same)
peak private memory          0  4.00 KiB  no difference shown (±12.0 KiB)
wall time                1.00s     3.00s  +200.0% in each run

Means of all runs. In brackets: 95% confidence for all rows together (bootstrap,
Bonferroni). Less than 0.5% counts as no difference."""


def test_the_table_is_of_80_columns() -> None:
    kib = 1024.0
    rows = (
        Difference("copied", Unit.BYTES, kib * kib, kib * kib / 2, True, -0.5, -0.6, -0.4),
        Difference("zero-filled", Unit.BYTES, 0, 8 * kib, False, 8 * kib, 4 * kib, 12 * kib),
        Difference("re-marked faults", Unit.FAULTS, 12345, 12345, True, 0, -0.999, 1.234),
        Difference("time in write faults", Unit.NS, None, None),
        Difference("peak memory", Unit.BYTES, 4 * kib, 4 * kib, True, 0, 0, 0),
        Difference("peak private memory", Unit.BYTES, 0, 4 * kib, False, 4 * kib, -kib, 12 * kib),
        Difference("wall time", Unit.NS, 1e9, 3e9, True, 2, 2, 2),
    )
    verdict = "fixed against plain: no difference shown in copied bytes; "
    verdict += "no difference shown in time."
    found = [Comparison("plain", "fixed", verdict, rows)]
    shown = trials_text(found, "7 runs of each.", {"plain": "./job"}, ["A doubt."]).plain
    assert shown == TABLE
    assert max(map(len, shown.splitlines())) <= COLUMNS


def test_hostile_names_are_escaped() -> None:
    found = [Comparison("plain", "b", "b \x1b[31m", ())]
    shown = trials_text(found, "", {"b": "sh -c \x1b[31m" + "x" * 99}, ["\x1b"]).plain
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= COLUMNS
