"""Open timelines in Perfetto: its trace processor finds exactly what the recording holds."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE
from perfetto_ui import Perfetto, perfetto
from sources import writes

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from made_recordings import EVIL, make
from snapshots import PAGE, SECOND, fork, process, row

from cowtrace.analysis.timeline import PID_MAX_LIMIT, Timeline, timeline
from cowtrace.machine.chrome_trace import write_chrome_trace
from cowtrace.model import Ending, FaultKind
from cowtrace.recording import Point, Recording
from cowtrace.recording.reader import read
from cowtrace.text import printable

pytestmark = pytest.mark.host

INTERVAL, TOTAL = "in the interval: copied bytes", "since attach: copied bytes"
PAGES = 509
WORK = f"""
{writes(PAGES)}
for _ in range(3):
    child = os.fork()
    if not child:
        write()
        os._exit(0)
    os.waitpid(child, 0)
os.fork() or os.execv("/bin/true", ["true"])
os.wait()
"""

# With the process of each slice.
SLICES = """(select slice.*, pid, process.name as process_name, thread.name as thread_name
from slice join thread_track on track_id = thread_track.id
  join thread using (utid) join process using (upid))"""
LIVES = f"""
select pid, process_name, thread_name, ts, dur, extract_arg(arg_set_id, 'args.end'),
  extract_arg(arg_set_id, 'args.copied_bytes')
from {SLICES} where dur > 0 order by id"""
MARKS = f"""
select pid, name, ts, extract_arg(arg_set_id, 'args.child_pid')
from {SLICES} where dur = 0 order by id"""
ARROWS = f"""
select before.pid, before.name, after.pid, after.ts, after.dur > 0
from flow join {SLICES} before on slice_out = before.id
  join {SLICES} after on slice_in = after.id"""
COUNTERS = """
select pid, track.name as name, ts, value
from counter join process_counter_track track on track_id = track.id join process using (upid)
order by ts"""
LAST = f"select pid, max(value) from ({COUNTERS}) where name = '{TOTAL}' group by pid"
# What the importer did not understand or dropped.
PROBLEMS = "select name, idx, value from stats where severity in ('error', 'data_loss') and value"


@pytest.fixture(scope="module")
def ui(browser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perfetto]:
    with perfetto(browser, tmp_path_factory.mktemp("perfetto")) as opened:
        yield opened


def trace(recording: Recording) -> str:
    stream = io.StringIO()
    write_chrome_trace(stream, recording, timeline(recording))
    return stream.getvalue()


def as_written(name: str) -> str:
    """Perfetto v52 keeps escaped backslashes as they are in JSON."""
    return name.replace(r"\u005c", "\\").replace(r"\\", "\\")


def check(ui: Perfetto, shown: Timeline) -> None:
    """The trace processor holds these tracks, forks and counters, and nothing else."""
    assert ui.query(PROBLEMS) == []
    for key, _, thread, began, duration, end, copied in (lives := ui.query(LIVES)):
        (track,) = (each for each in shown.tracks if each.key == key)
        assert as_written(thread) == as_written(track.comm)
        assert (end, copied) == (track.end, track.copied_bytes)
        assert (began, duration) == (track.began_ns, max(1000, track.ended_ns - track.began_ns))
    assert sorted(key for key, *_ in lives) == sorted(track.key for track in shown.tracks)
    marks: list[tuple[int, str, int, int | None]] = []
    arrows = []
    for each in shown.forks:
        if each.parent is not None:
            marks.append((each.parent, f"fork {each.number}", each.at_ns, each.child_pid))
        if each.child is not None and each.exec_ns is not None:
            marks.append((each.child, "exec", each.exec_ns, None))
        if each.parent is not None and each.child is not None:
            arrows.append((each.parent, f"fork {each.number}", each.child, each.at_ns, 1))
    assert sorted(ui.query(MARKS), key=str) == sorted(marks, key=str)
    assert sorted(ui.query(ARROWS)) == sorted(arrows)
    counters = ui.query(COUNTERS)
    for track in shown.tracks:
        for name, steps in (INTERVAL, track.rates), (TOTAL, track.sums):
            found = [
                (ts, value) for key, of, ts, value in counters if (key, of) == (track.key, name)
            ]
            assert found == list(steps), (track.pid, name)
    assert len(counters) == sum(len(each.rates) + len(each.sums) for each in shown.tracks)


def test_what_a_viewer_can_misread(ui: Perfetto, tmp_path: Path) -> None:
    """Hostile names, forks within a life, exec, a reused PID, ended processes, one with no time."""
    made = make(tmp_path / "f")
    copied = row(FaultKind.COPIED, 34)
    processes = (
        process(1, EVIL + '"\\', copied),
        process(2, "exits", copied, parent=1, exited=True),
        process(3, "\ud800\u202e", parent=1),
        process(9, "old", copied, exited=True, start_ns=1),
        process(9, "new", parent=3, start_ns=2),
        process(0, "[ended]", copied, exited=True),
        process(4, "brief", parent=1, exited=True),
        process(5, "\\", parent=1),
        process(6, "caf\u00e9 \U0001f600", parent=1),
    )
    forks = (
        fork(1, 1, 2, at=2, ended=3.25),
        fork(2, 1, 3, at=2.5, ended=4.5, ended_by=Ending.EXEC),
        fork(3, 3, 9, at=4.75),
        fork(4, 1, 4, at=5.000000001, ended=5.000000001),
        fork(5, 1, 7, at=6),
    )
    points = tuple(
        Point((7 + second) * SECOND, at, FaultKind.COPIED, pages, pages * PAGE)
        for second, at, pages in (
            (1, 0, 23), (1, 3, 34), (3, 1, 30), (4, 1, 4), (5, 5, 34), (9, 0, 11),
        )
    )  # fmt: skip
    last = replace(made.last, processes=processes, generations=forks)
    recording = replace(made, last=last, points=points)
    shown = timeline(recording)
    assert len(shown.forks) == 5
    ui.open(trace(recording))
    check(ui, shown)
    names = [as_written(name) for (name,) in ui.query("select name from process where pid")]
    evil = as_written(printable(EVIL + '"\\'))
    assert sorted(names) == sorted((
        evil, "exits", "\\ud800\\u202e", "old (earlier PID 9)", "new", "[ended]", "brief",
        "\\", "caf\u00e9 \U0001f600",
    ))  # fmt: skip
    first, tracks = f"{evil} 1", [as_written(name) for name in ui.tracks()]
    # Who forked most is on top.
    assert tracks[:4] == [first, *(f"{first} / {name}" for name in (first, INTERVAL, TOTAL))]
    assert f"old (earlier PID 9) {PID_MAX_LIMIT + 4} / {TOTAL}" in tracks


@pytest.mark.usefixtures("can_trace")
def test_a_real_recording(ui: Perfetto, tmp_path: Path) -> None:
    """`cowtrace record`, then `cowtrace report --trace`: forks, exits, exec and copied bytes."""
    path, out = tmp_path / "f.cow", tmp_path / "f.json"
    record = ["record", "--interval", "0.05", "-o", str(path), "--", sys.executable, "-c", WORK]
    for command in record, ["report", str(path), "--trace", str(out)]:
        subprocess.run([*COWTRACE, *command], check=True, timeout=PATIENCE)
    recording = read(path)
    ui.open(out.read_text())
    check(ui, timeline(recording))
    if recording.last.completeness.lost:
        return
    last = dict(ui.query(LAST))
    copied = {each.pid: each.copied_bytes for each in recording.last.processes if each.copied_bytes}
    assert last == copied
    (parent,) = {each.parent for each in recording.last.generations}
    assert sum(pid != parent and value >= PAGES * PAGE for pid, value in last.items()) == 3
    names = [name for _, name, *_ in ui.query(MARKS)]
    assert sorted(names) == ["exec", *(f"fork {n}" for n in range(1, 5))]
    ends = [end for *_, end, _ in ui.query(LIVES)]
    assert ends.count("its exit") == 3
