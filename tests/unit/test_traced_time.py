"""The traced time: what a report's time, mean rate and pace are over."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from made_recordings import HEADER, make, write
from snapshots import PAGE, SECOND, process, row, snapshot
from test_top import FAKED

from cowtrace.analysis.questions.compare import compare
from cowtrace.analysis.questions.speed import pace, speed
from cowtrace.cli.launch import End
from cowtrace.cli.recorder import TracedTime
from cowtrace.errors import CowtraceError
from cowtrace.machine import question_objects
from cowtrace.model import FaultKind
from cowtrace.recording import Point, Recording
from cowtrace.recording.reader import read
from cowtrace.recording.writer import Writer
from cowtrace.terminal.report import origin, summary

ATTACHED = HEADER.attached_ns


def ran(path: Path, begin: float, end: float) -> Recording:
    """A recording of 12 s, of processes that ran between these seconds; 34 pages each second."""
    times = (ATTACHED + round(begin * SECOND), ATTACHED + round(end * SECOND))
    return replace(make(path), traced_from_ns=times[0], traced_until_ns=times[1])


def measures(found: Recording) -> dict[str, float | None]:
    return {measure.name: measure.value for measure in speed(found).measures}


def test_the_mean_is_over_the_time_of_the_processes(tmp_path: Path) -> None:
    found = measures(ran(tmp_path / "f", 3.5, 9.5))
    assert found["mean"] == 12 * 34 * PAGE / 6
    assert found["traced time, of the mean"] == 6 * SECOND
    # What was counted before 4 s came within half a second, and what came at the end likewise.
    assert found["fastest interval"] == 4 * 34 * PAGE / 0.5


def test_an_old_recording_has_the_recorders_times(tmp_path: Path) -> None:
    found = make(tmp_path / "f")
    assert (found.traced_from_ns, found.traced_until_ns) == (None, None)
    assert (found.seconds, found.recorded_seconds) == (12, 12)
    assert measures(found)["mean"] == measures(found)["fastest interval"] == 34 * PAGE
    assert "recorded for" not in origin(found)


def test_the_mean_is_never_above_the_fastest(tmp_path: Path) -> None:
    for begin, end in ((0, 0.01), (0.2, 0.3), (5.1, 5.2), (11.9, 12), (0, 12), (0.5, 11.5)):
        found = measures(ran(tmp_path / f"{begin} {end}", begin, end))
        assert (found["mean"] or 0) <= (found["fastest interval"] or 0) * 1.000001


@pytest.mark.parametrize(("begin", "end"), [(5, 5), (9, 3), (-5, 0), (20, 30), (12, 12)])
def test_times_that_leave_nothing_have_no_mean(tmp_path: Path, begin: float, end: float) -> None:
    found = ran(tmp_path / "f", begin, end)
    assert found.seconds == 0
    assert not {"mean", "fastest interval"} & set(measures(found))
    assert pace(found) is None


def test_times_outside_of_the_recording_are_its_own(tmp_path: Path) -> None:
    assert ran(tmp_path / "f", -5, 99).seconds == 12
    assert ran(tmp_path / "g", 4, 99).seconds == 8


def test_the_report_says_both_times(tmp_path: Path) -> None:
    found = ran(tmp_path / "f", 3.5, 6.25)
    assert summary(found, "f").startswith("f: 2.8 s, 2 processes")
    assert ", recorded for 12.0 s; plan kprobe" in origin(found)
    told = question_objects.report(found, "f")
    assert (told["seconds"], told["recorded_seconds"]) == (2.75, 12)


def test_a_comparison_is_of_the_time_of_the_processes(tmp_path: Path) -> None:
    one, other = ran(tmp_path / "A", 0, 6), ran(tmp_path / "B", 6, 12)
    assert compare(one, other, ("A", "B")).doubts == ()
    doubts = compare(one, make(tmp_path / "C"), ("A", "C")).doubts
    assert doubts == ("They lasted 6.0 s and 12.0 s: compare the rates.",)


def test_the_pace_is_of_the_traced_time(tmp_path: Path) -> None:
    """An interval of 1 s with nothing, then two; the process ran in 1.5 s of them."""
    made = make(tmp_path / "f")
    times = tuple(ATTACHED + n * SECOND for n in (1, 2, 3))
    counted = zip(times[1:], (35, 70), strict=True)
    found = replace(
        made,
        times=times,
        points=tuple(Point(at, 0, FaultKind.COPIED, n, n * PAGE) for at, n in counted),
        last=replace(made.last, at_ns=times[-1]),
        traced_from_ns=ATTACHED + SECOND,
        traced_until_ns=ATTACHED + round(2.5 * SECOND),
    )
    assert pace(found) == "▄█ 0 to 420 KiB/s, a block: 750 ms"


def test_the_times_come_back(tmp_path: Path) -> None:
    file = Writer(tmp_path / "f", HEADER)
    file.traced(ATTACHED + 1, None)
    file.add(snapshot(process(1, "a", row(FaultKind.COPIED, 1)), at=5))
    assert read(tmp_path / "f").traced_from_ns == ATTACHED + 1
    assert read(tmp_path / "f").traced_until_ns is None
    file.traced(ATTACHED + 1, ATTACHED + SECOND)
    file.close()
    file.traced(3, 3)  # too late
    found = read(tmp_path / "f")
    assert (found.began_ns, found.ended_ns) == (ATTACHED + 1, ATTACHED + SECOND)


@pytest.mark.parametrize("value", ["'soon'", "-1", "1.5", "x'00'", str(1 << 63)])
def test_times_that_are_none_are_damage(tmp_path: Path, value: str) -> None:
    path = write(tmp_path / "f")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"INSERT INTO meta VALUES ('traced_until_ns', {value})")
    with pytest.raises(CowtraceError, match="is damaged"):
        read(path)


AHEAD = 1000 * SECOND  # of the boot time clock: the machine slept


def look(found: TracedTime, at: float, *processes: tuple[float | None, bool]) -> None:
    """At so many seconds after attach: the start of each process, whether it has exited."""
    made = (
        process(
            pid,
            start_ns=None if start is None else ATTACHED + round(start * SECOND) + AHEAD,
            exited=exited,
        )
        for pid, (start, exited) in enumerate(processes)
    )
    found.look(snapshot(*made, at=at), AHEAD)


def times(found: TracedTime) -> list[float | None]:
    both = (found.from_ns, found.until_ns)
    return [None if at is None else (at - ATTACHED) / SECOND for at in both]


def test_it_is_from_the_first_process_to_the_end_of_the_last() -> None:
    found = TracedTime()
    look(found, 1)
    assert times(found) == [None, None]
    look(found, 4, (3.5, False))
    assert times(found) == [3.5, None]
    look(found, 5, (3.5, True), (2.5, False))  # older, and seen later
    assert times(found) == [2.5, None]
    look(found, 6, (3.5, True), (2.5, True))
    assert times(found) == [2.5, 6]
    look(found, 7, (3.5, True), (2.5, True))
    look(found, 8)  # ended ones were forgotten
    assert times(found) == [2.5, 6]
    look(found, 9, (8.5, False))
    assert times(found) == [2.5, None]


@pytest.mark.parametrize("start", [-50, None])
def test_a_process_that_is_older_than_the_trace_counts_since_attach(start: float | None) -> None:
    found = TracedTime()
    look(found, 1, (start, False))
    assert times(found) == [0, None]


def test_a_command_is_timed_by_itself(tmp_path: Path) -> None:
    before_ns = time.monotonic_ns()
    subprocess.run(
        [sys.executable, FAKED, "record", "-o", tmp_path / "f", "--", "sleep", "0.25"],
        check=True,
        capture_output=True,
    )
    found = read(tmp_path / "f")
    assert found.traced_from_ns is not None
    assert found.traced_until_ns is not None
    assert before_ns < found.traced_from_ns
    assert found.traced_from_ns + SECOND // 4 <= found.traced_until_ns <= time.monotonic_ns()


def test_an_end_is_noted_when_it_happens_and_not_when_it_is_reaped() -> None:
    with subprocess.Popen(["true"]) as child:
        end = End(child.pid)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        while (noted := end.at_ns()) != end.at_ns():  # until then it is the present time
            pass
        later_ns = time.monotonic_ns()
        child.wait()
    assert end.at_ns() == noted < later_ns


def test_an_end_that_nobody_noted_is_at_the_latest_now() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    before_ns = time.monotonic_ns()
    assert before_ns <= End(child.pid).at_ns() <= time.monotonic_ns()
