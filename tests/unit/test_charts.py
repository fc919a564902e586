"""The figures of the page, as plotly gets them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_recordings import make
from snapshots import PAGE, SECOND, process, row

from cowtrace.analysis.questions.answer import Answer, Measure, Quality, Unit
from cowtrace.html import charts
from cowtrace.model import FaultKind
from cowtrace.recording import Point, Recording

pytest.importorskip("plotly", reason="the extra cowtrace[report] is not installed")


def crowd(made: Recording) -> Recording:
    """Eleven processes: the first copied 1 page, the last 11, all in the first second."""
    copied = range(1, 12)
    return replace(
        made,
        last=replace(
            made.last,
            processes=tuple(process(n, "w", row(FaultKind.COPIED, n)) for n in copied),
        ),
        points=tuple(Point(8 * SECOND, n - 1, FaultKind.COPIED, n, n * PAGE) for n in copied),
    )


def test_those_that_copied_most_have_names_and_the_others_lie_on_top(tmp_path: Path) -> None:
    figure = charts.over_time(crowd(make(tmp_path / "f")))
    bars = [trace for trace in figure.data if trace.type == "bar" and trace.legend == "legend"]
    assert [bar.name for bar in bars] == [*(f"w {n}" for n in range(5, 12)), "others"]
    assert [bar.y[0] for bar in bars] == [*(n * PAGE for n in range(5, 12)), 10 * PAGE]
    colours = [bar.marker.color for bar in bars]
    assert len(set(colours)) == 8
    assert colours[-1] == charts.COLOURS[-1]


def test_forks_and_exits_are_marked_at_their_times(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    ended = replace(made.last.generations[0], ended_ns=10 * SECOND)
    figure = charts.over_time(replace(made, last=replace(made.last, generations=(ended,))))
    marks = {trace.name: trace.x for trace in figure.data if trace.type == "scatter"}
    assert marks == {"fork": (0.5,), "exit or exec": (3.0,)}


def test_the_treemap_adds_up(tmp_path: Path) -> None:
    figure = charts.treemap(make(tmp_path / "f"))
    assert figure is not None
    (tree,) = figure.data
    values = dict(zip(tree.ids, tree.values, strict=True))
    below = dict.fromkeys(tree.ids, 0)
    for number, parent in zip(tree.ids, tree.parents, strict=True):
        if parent:
            below[parent] += values[number]
    assert {number: held for number, held in below.items() if held} == {
        number: values[number] for number, held in below.items() if held
    }
    assert values["all"] == 12 * (23 + 11) * PAGE


def test_parent_and_child_have_histograms_of_their_own(tmp_path: Path) -> None:
    figure = charts.latencies(make(tmp_path / "f"))
    assert figure is not None
    assert {bar.name: sum(bar.y) for bar in figure.data} == {"parent": 12 * 23, "child": 12 * 11}


def test_the_waterfall_ends_where_private_memory_is() -> None:
    def measure(name: str, value: int, *, aside: bool = False) -> Measure:
        return Measure(name, value * PAGE, Unit.BYTES, Quality.EXACT, aside=aside)

    figure = charts.waterfall(
        Answer(11, "", (
            measure("at the start", 23),
            measure("+ copied when written", 60),
            measure("- unmapped", 5),
            measure("changed while it was read", 99, aside=True),
            measure("private memory, in all", 78),
        ))
    )  # fmt: skip
    assert figure is not None
    (bars,) = figure.data
    assert bars.measure == ("absolute", "relative", "relative", "total")
    assert sum(bars.y) == 78 * PAGE
    assert charts.waterfall(Answer(11, "", (measure("private memory", 0),))) is None


def test_what_was_not_recorded_has_no_figure(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    bare = replace(made, last=replace(made.last, details=()))
    assert charts.treemap(bare) is None
    assert charts.latencies(bare) is None


@pytest.mark.parametrize(
    ("seconds", "step"),
    [(0, 0.0001), (0.7, 0.1), (1, 0.1), (1.5, 0.2), (4, 0.5), (10.8, 2), (3600, 500), (9999, 1000)],
)
def test_ticks_of_round_seconds(seconds: float, step: float) -> None:
    assert charts._step(seconds) == pytest.approx(step)


def test_bars_are_rates_in_the_middle_of_their_intervals(tmp_path: Path) -> None:
    """The first took three seconds, the second one."""
    made = make(tmp_path / "f")
    times = (10 * SECOND, 11 * SECOND)
    points = tuple(Point(at, 0, FaultKind.COPIED, 30, 30 * PAGE) for at in times)
    last = replace(made.last, at_ns=times[-1], generations=())
    figure = charts.over_time(replace(made, times=times, points=points, last=last))
    (bar, *_) = [trace for trace in figure.data if trace.type == "bar"]
    assert list(bar.x) == [1.5, 3.5]
    assert list(bar.y) == [10 * PAGE, 30 * PAGE]
