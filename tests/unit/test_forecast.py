"""analysis/forecast.py, copy_curves.py and forecaster.py: made-up copies, and real saves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import PAGE, SECOND, fork, snapshot

from cowtrace.analysis.copy_curves import Point, as_earlier, fitted
from cowtrace.analysis.forecast import Clock, forecast, of_ended
from cowtrace.analysis.forecaster import Forecaster, Progress
from cowtrace.model import ForkGeneration, Snapshot

SHARED = 20_011 * PAGE
SAVES = json.loads(Path(__file__).with_name("redis_saves.json").read_text())


def even(rate: float, pages: int = 20_011) -> Callable[[float], float]:
    """Pages that are all written alike."""
    return lambda seconds: pages * PAGE * (1 - math.exp(-rate * seconds))


def points(copied: Callable[[float], float], until: float, step: float = 0.2) -> list[Point]:
    return [(n * step, copied(n * step)) for n in range(1, round(until / step) + 1)]


@pytest.mark.parametrize("rate", [0.005, 0.05, 0.2])
def test_pages_that_are_written_alike(rate: float) -> None:
    curve = even(rate)
    made = forecast(points(curve, 3.0), SHARED, Clock(30.0))
    assert made
    assert made.expected_bytes == pytest.approx(curve(30.0), rel=0.15)
    assert made.copied_bytes <= made.low_bytes <= made.expected_bytes <= made.high_bytes <= SHARED


def test_a_fork_like_an_earlier_one() -> None:
    """The same pages twice as fast: only a part of what is shared is ever written."""
    once, now = even(0.05, 6_007), even(0.1, 6_007)
    earlier = as_earlier(points(once, 60.0), SHARED)
    assert earlier
    made = forecast(points(now, 1.0), SHARED, Clock(20.0), [earlier])
    assert made
    assert made.expected_bytes == pytest.approx(now(20.0), rel=0.03)
    assert made.earlier == 1


def test_a_fork_unlike_earlier_ones() -> None:
    """What was seen of this one counts more: here the earlier one levelled off at once."""
    once, now = even(3.0, 19_001), even(0.02)
    earlier = as_earlier(points(once, 30.0), SHARED)
    assert earlier
    made = forecast(points(now, 6.0), SHARED, Clock(30.0), [earlier])
    assert made
    assert made.expected_bytes == pytest.approx(now(30.0), rel=0.25)


def test_without_an_end_the_copies_go_on() -> None:
    curve = even(0.2)
    known = forecast(points(curve, 3.0), SHARED, Clock(6.0))
    unknown = forecast(points(curve, 3.0), SHARED, Clock(None))
    assert known
    assert unknown
    assert unknown.ends_in_seconds is None
    assert known.expected_bytes < unknown.expected_bytes <= SHARED


def test_levelling_off() -> None:
    curve = even(0.5)
    late = forecast(points(curve, 20.0), SHARED, Clock(40.0))
    early = forecast(points(curve, 2.0), SHARED, Clock(40.0))
    assert late
    assert early
    assert late.levels_off_in_seconds == 0
    # ln(20) / 0.5 after the fork are 95 %.
    assert early.levels_off_in_seconds == pytest.approx(6.0 - 2.0, rel=0.5)


def test_more_than_was_shared_is_at_most_what_is_copied() -> None:
    """Copies of private file pages are not in what was shared."""
    made = forecast([(1.0, 2.0 * SHARED), (2.0, 3.0 * SHARED)], SHARED, Clock(20.0))
    assert made is None or made.high_bytes == 3 * SHARED


@given(
    seen=st.lists(st.tuples(st.floats(1e-3, 10), st.integers(0, 3001)), min_size=2, max_size=9),
    end=st.floats(0, 1e4),
    spread=st.floats(0, 1e3),
    speed=st.floats(0, 10),
)
def test_any_forecast_is_between_what_is_copied_and_shared(
    seen: list[tuple[float, int]], end: float, spread: float, speed: float
) -> None:
    """Whatever is known of the end: also that it may be any time, or should have come."""
    grown, seconds, copied = list[Point](), 0.0, 0.0
    for step, pages in seen:
        seconds, copied = seconds + step, copied + pages * PAGE
        grown.append((seconds, copied))
    made = forecast(grown, SHARED, Clock(end, spread, speed))
    if made:
        most = max(SHARED, round(copied))
        assert made.copied_bytes == round(copied)
        assert made.copied_bytes <= made.low_bytes <= made.expected_bytes <= made.high_bytes <= most
        assert made.levels_off_in_seconds is None or made.levels_off_in_seconds >= 0


@pytest.mark.parametrize("seen", [[], [(1.0, 23.0 * PAGE)], [(0.01, 5.0), (1.0, 5.0)]])
def test_too_early(seen: list[Point]) -> None:
    assert fitted(seen, SHARED) == []
    assert forecast(seen, SHARED, Clock(10.0)) is None


def test_an_ended_fork_is_known() -> None:
    made = of_ended(23 * PAGE)
    assert (made.low_bytes, made.high_bytes, made.to_come_bytes) == (23 * PAGE, 23 * PAGE, 0)


def at(seconds: float, *generations: ForkGeneration) -> Snapshot:
    return replace(snapshot(at=seconds), generations=generations)


def run(
    looks: Iterable[tuple[float, float]],
    forecaster: Forecaster,
    number: int = 1,
    progress: Callable[[float], Progress | None] = lambda _: None,
) -> Snapshot:
    """A fork at second 1, seen at these seconds after it. Returns the last snapshot."""
    now = at(0)
    for seconds, copied in looks:
        live = fork(number, 1, 2, at=1, shareable=20_011, by_parent=round(copied / PAGE))
        now = at(1 + seconds, live)
        found = progress(seconds)
        forecaster.note(now, {1: found} if found else {})
    return now


def test_the_end_is_where_progress_leads_to() -> None:
    """INFO has what was done up to a second before: the slope counts."""
    teller = Forecaster()

    def told(seconds: float) -> Progress:
        return Progress(max(0.0, math.floor(seconds - 0.5) / 20 + 1e-4))

    now = run(points(even(0.05), 4.0), teller, progress=told)
    left = teller.forecasts(now)[1].ends_in_seconds
    assert left == pytest.approx(16.0, abs=2.5)


def test_the_end_is_that_of_earlier_forks() -> None:
    teller = Forecaster()
    curve = even(0.05)
    run(points(curve, 19.0), teller)
    ended = fork(1, 1, 2, at=1, shareable=20_011, by_parent=round(curve(20) / PAGE), ended=21)
    teller.note(at(22, ended))
    assert teller.earlier_totals(1) == (ended.copied_bytes,)
    done = teller.forecasts(at(22, ended))[1]
    assert done.expected_bytes == done.high_bytes == ended.copied_bytes
    now = run(points(curve, 2.0), teller, 2)
    made = teller.forecasts(now)[2]
    assert made.ends_in_seconds == pytest.approx(18.0)
    assert made.expected_bytes == pytest.approx(curve(20.0), rel=0.05)
    assert teller.earlier_totals(1) == (ended.copied_bytes,)  # once


def test_writers_that_pause_have_not_levelled_off() -> None:
    """They stood still for half of the time; their work says so."""
    curve = even(0.02)

    def work(seconds: float) -> float:
        return seconds if seconds < 2 else 2.0 if seconds < 4 else seconds - 2

    looks = [(seconds, curve(work(seconds))) for seconds, _ in points(curve, 8.0)]
    blind, seeing = Forecaster(), Forecaster()
    run(looks, blind, progress=lambda s: Progress(s / 40))
    now = run(looks, seeing, progress=lambda s: Progress(s / 40, 1000 * work(s)))
    truth = curve(work(40.0))
    off = [abs(teller.forecasts(now)[1].expected_bytes / truth - 1) for teller in (blind, seeing)]
    assert off[1] < 0.15
    assert off[1] < off[0]


def test_what_is_kept_is_bounded() -> None:
    teller = Forecaster()
    run(points(even(0.001), 400.0, 0.1), teller)
    assert all(len(seen.points) <= 128 for seen in teller._seen.values())
    for number in range(2, 283):
        parent = 10_000 + number
        for seconds, pages in ((0.5, 503), (1.0, 1009)):
            live = fork(number, parent, 2, at=1, shareable=20_011, by_parent=pages)
            teller.note(at(1 + seconds, live))
        teller.note(at(3, replace(live, ended_ns=9 * SECOND)))
    assert len(teller._past) == 256
    assert len(teller._seen) == 0


def test_little_and_unknown_memory_is_not_forecast() -> None:
    teller = Forecaster()
    small = fork(1, 1, 2, at=1, by_child=23)
    unknown = fork(2, 1, 3, at=1, shareable=None, by_parent=5003)
    for seconds in (1.5, 2, 2.5):
        teller.note(at(seconds, small, unknown))
    assert teller.forecasts(at(2.5, small, unknown)) == {}


@pytest.mark.parametrize("second", [save for save in SAVES if save["number"] == 2],
                         ids=lambda save: save["setup"])  # fmt: skip
def test_saves_of_redis(second: dict[str, Any]) -> None:
    """After 10 % of a save that follows another one: within 15 % of what it copied."""
    first = next(s for s in SAVES if s["setup"] == second["setup"] and s["number"] == 1)
    teller = Forecaster()
    for number, save in ((1, first), (2, second)):
        made = None
        for seconds, pages, progress in save["looks"]:
            ended = seconds >= save["seconds"]
            shown = fork(
                number, 1, 2, at=number * 1000, shareable=save["shared"], by_parent=pages,
                ended=number * 1000 + save["seconds"] if ended else None,
            )  # fmt: skip
            now = at(number * 1000 + seconds, shown)
            teller.note(now, {1: Progress(progress)} if progress is not None else {})
            if made is None and seconds >= 0.1 * save["seconds"]:
                made = teller.forecasts(now)[number]
    assert made
    assert made.expected_bytes == pytest.approx(pages * PAGE, rel=0.15)
    assert made.earlier == 1
