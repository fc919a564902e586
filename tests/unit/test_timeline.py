"""`cowtrace report --trace`: tracks, arrows and counters, as a viewer reads them."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import trace_checker
from click.testing import CliRunner
from made_recordings import EVIL, make, write
from snapshots import PAGE, SECOND, fork, process, row

from cowtrace.analysis import timeline as module
from cowtrace.analysis.timeline import PID_MAX_LIMIT, timeline
from cowtrace.cli import main
from cowtrace.machine.chrome_trace import write_chrome_trace
from cowtrace.model import Ending, FaultKind, ForkGeneration, Process
from cowtrace.recording import Point, Recording

INTERVAL, TOTAL = "in the interval: copied", "since attach: copied"


def written(recording: Recording) -> trace_checker.Shown:
    stream = io.StringIO()
    write_chrome_trace(stream, recording, timeline(recording))
    return trace_checker.shown(stream.getvalue())


def of(
    tmp_path: Path,
    processes: tuple[Process, ...],
    points: tuple[Point, ...] = (),
    forks: tuple[ForkGeneration, ...] = (),
) -> Recording:
    """Of twelve intervals of a second."""
    made = make(tmp_path / "f")
    last = replace(made.last, processes=processes, generations=forks)
    return replace(made, last=last, points=points)


def copy(second: int, at: int, pages: int, kind: FaultKind = FaultKind.COPIED) -> Point:
    """By the process of this index, in the interval that ends at this second."""
    return Point((7 + second) * SECOND, at, kind, pages, pages * PAGE)


def test_a_parent_and_its_child(tmp_path: Path) -> None:
    path, out = write(tmp_path / "f"), tmp_path / "x.json"
    ended = CliRunner().invoke(main, ["report", str(path), "--trace", str(out)])
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr == f"cowtrace: wrote {out}\n"
    found = trace_checker.shown(out.read_text())
    assert found.names == {1: "server", 2: "</script><b>\\x1b[31m"}
    times = {pid: (each["ts"], each["dur"]) for pid, each in found.slices.items()}
    assert times == {1: (0, 12e6), 2: (0.5e6, 11.5e6)}
    assert found.arrows == [(1, 2, 0.5e6)]
    assert found.instants == [(1, "fork 1", 0.5e6)]
    for pid, pages in (1, 23), (2, 11):
        begins = [times[pid][0], *(at * 1e6 for at in range(1, 12))]  # no copy before the fork
        steps = found.counters[pid, INTERVAL]
        assert steps == [*((at, pages * PAGE) for at in begins), (12e6, 0)]
        sums = [(at, n * pages * PAGE) for n, at in enumerate([*begins, 12e6])]
        assert found.counters[pid, TOTAL] == sums
        assert found.slices[pid]["args"]["copied_bytes"] == 12 * pages * PAGE
    about = json.loads(out.read_text())["otherData"]
    assert about["lost"] == about["processes_left_out"] == 0
    assert about["attached_unix_ns"] == 1_795_000_000 * SECOND


def test_how_processes_end(tmp_path: Path) -> None:
    processes = (
        process(1, "shell"),
        process(2, "exits", parent=1, exited=True),
        process(3, "execs", parent=1),
        process(4, "vforked", row(FaultKind.COPIED, 5), parent=1, exited=True),
        process(5, "silent", parent=None, exited=True),
    )
    forks = (
        fork(1, 1, 2, at=2, ended=3.25),
        fork(2, 1, 3, at=4, ended=4.5, ended_by=Ending.EXEC),
    )
    points = copy(7, 3, 2), copy(8, 3, 3), copy(8, 3, 1, FaultKind.FILE_COPIED)
    found = written(of(tmp_path, processes, points, forks))
    slices = {
        pid: (each["ts"] / 1e6, (each["ts"] + each["dur"]) / 1e6, each["args"]["end"])
        for pid, each in found.slices.items()
    }
    assert slices == {
        1: (0, 12, "still running"),
        2: (2, 3.25, "its exit"),
        3: (4, 12, "still running"),
        4: (6, 8, "the last interval in which it is seen; it has exited"),
        5: (0, 12, "has exited, unknown when"),
    }
    assert found.arrows == [(1, 2, 2e6), (1, 3, 4e6)]
    assert (3, "exec", 4.5e6) in found.instants
    assert found.counters[4, INTERVAL] == [(6e6, 2 * PAGE), (7e6, 4 * PAGE), (8e6, 0)]
    assert found.counters[4, TOTAL] == [(6e6, 0), (7e6, 2 * PAGE), (8e6, 6 * PAGE)]
    assert {pid for pid, _ in found.counters} == {4}


def test_a_pause_between_copies_and_other_kinds(tmp_path: Path) -> None:
    points = copy(2, 0, 23), copy(3, 0, 9, FaultKind.ZERO_FILLED), copy(6, 0, 11)
    found = written(of(tmp_path, (process(1, "a"),), points))
    assert found.counters[1, INTERVAL] == [
        (1e6, 23 * PAGE),
        (2e6, 0),
        (5e6, 11 * PAGE),
        (6e6, 0),
    ]
    assert found.counters[1, TOTAL][-1] == (6e6, 34 * PAGE)


def test_pids_that_come_twice_and_ended_processes(tmp_path: Path) -> None:
    processes = (
        process(9, "old", exited=True, start_ns=1),
        process(9, "new", parent=1, start_ns=2),
        process(0, "[ended]", exited=True),
    )
    points = copy(1, 0, 2), copy(4, 1, 3), copy(5, 2, 5)
    found = written(of(tmp_path, processes, points, (fork(1, 1, 9, at=3),)))
    assert sorted(found.names.items()) == [
        (9, "new"),
        (PID_MAX_LIMIT + 1, "old (earlier PID 9)"),
        (PID_MAX_LIMIT + 3, "[ended]"),
    ]
    assert found.slices[9]["ts"] == 3e6
    assert found.slices[PID_MAX_LIMIT + 1]["ts"] == 0
    assert {each["args"]["pid"] for each in found.slices.values()} == {0, 9}
    assert found.arrows == []  # the parent has no track


def test_more_processes_than_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TRACKS", 2)
    rows = (row(FaultKind.COPIED, pages) for pages in (1, 3, 2))
    processes = tuple(process(pid, "x", each) for pid, each in enumerate(rows, 1))
    made = of(tmp_path, processes, forks=(fork(1, 2, 3), fork(2, 1, 3), fork(3, 1, 1)))
    assert timeline(made).left_out == 1
    found = written(made)
    assert found.names.keys() == {2, 3}
    assert found.arrows == [(2, 3, 0.5e6)]


def test_forks_of_earlier_processes_of_a_pid_and_of_exited_parents(tmp_path: Path) -> None:
    processes = (
        process(1, "parent", row(FaultKind.COPIED, 2), parent=8, exited=True),
        process(2, "old", parent=1, exited=True),
        process(2, "new", parent=1),
    )
    forks = (fork(1, 1, 2, at=3, ended=4), fork(2, 1, 2, at=6.5), fork(3, 2, 7, at=5))
    found = written(of(tmp_path, processes, (copy(2, 0, 2),), forks))
    parent = found.slices[1]
    assert (parent["ts"], parent["dur"]) == (1e6, 5.5e6)  # to its last fork
    assert found.slices[2]["ts"] == 6.5e6
    assert found.arrows == [(1, 2, 6.5e6)]
    assert found.instants == [(1, "fork 1", 3e6), (1, "fork 2", 6.5e6)]


def test_names_are_bounded_and_escaped(tmp_path: Path) -> None:
    found = written(of(tmp_path, (process(1, EVIL * 100 + '"\\'), process(2, "\ud800\u202e"))))
    assert len(found.names[1]) == 100
    assert found.names[2] == "\\ud800\\u202e"


@pytest.mark.parametrize("comm", ["\\", 'a"\\', "\\\\", '\\"', "\\\\x", "é", "\U0001f600\\"])
def test_strings_that_perfetto_reads_wrongly_are_written_differently(
    tmp_path: Path, comm: str
) -> None:
    stream = io.StringIO()
    recording = of(tmp_path, (process(1, comm),))
    write_chrome_trace(stream, recording, timeline(recording))
    text = stream.getvalue()
    assert trace_checker.shown(text).names == {1: comm}
    assert not re.search(r'(?<!\\)(?:\\\\)+"', text)  # an even number of backslashes
    assert not re.search(r"\\u(?!005c)", text)


def test_copies_end_with_the_process(tmp_path: Path) -> None:
    """It forked and exited in one interval; another has all its copies before its own fork."""
    processes = (
        process(1, "parent"),
        process(2, "brief", parent=1, exited=True),
        process(3, "odd", parent=1),
    )
    forks = fork(1, 1, 2, at=2.25, ended=2.75), fork(2, 1, 3, at=5)
    found = written(of(tmp_path, processes, (copy(3, 1, 2), copy(4, 2, 3)), forks))
    assert found.counters[2, INTERVAL] == [(2.25e6, 2 * PAGE), (2.75e6, 0)]
    assert found.counters[2, TOTAL] == [(2.25e6, 0), (2.75e6, 2 * PAGE)]
    assert found.counters[3, INTERVAL] == [(3e6, 3 * PAGE), (4e6, 0)]


def test_a_recording_without_intervals(tmp_path: Path) -> None:
    found = written(make(tmp_path / "f", intervals=0))
    assert not found.names
