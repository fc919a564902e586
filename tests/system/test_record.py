"""Kill `cowtrace record`, interrupt it, and fill its disk: the recording stays readable."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE, eventually

from cowtrace import tracer
from cowtrace.cli.choice import command_filter
from cowtrace.errors import EXIT_NO_ROOM
from cowtrace.recording.reader import read

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("can_trace")]

# Forks again and again; the parent then copies 509 pages, and says so.
FORKS = """
import os, time
pages = bytearray(509 * 4096)
while True:
    child = os.fork()
    if not child:
        time.sleep(0.2)
        os._exit(0)
    pages[::4096] = bytes(509)
    os.waitpid(child, 0)
"""


@pytest.fixture
def forking() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", FORKS]) as running:
        yield running.pid
        running.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_kill_9_loses_the_last_interval_at_most(forking: int, tmp_path: Path) -> None:
    file = tmp_path / "killed.cow"
    with subprocess.Popen(
        [*COWTRACE, "record", "-o", file, "--interval", "0.2", "-p", str(forking)],
        stderr=subprocess.PIPE,
    ) as recorder:
        eventually(lambda: file.exists() and intervals(file) >= 10)
        written = intervals(file)
        recorder.send_signal(signal.SIGKILL)
    found = read(file)
    assert len(found.times) >= written >= 10
    assert not found.closed
    assert found.last.process(forking)
    assert found.last.generations
    shown = subprocess.run(
        [*COWTRACE, "report", file], capture_output=True, text=True, timeout=PATIENCE
    )
    assert shown.returncode == 0, shown.stderr
    assert "It was not closed" in " ".join(shown.stdout.split())
    again = read(file)  # reading took nothing away
    assert again == found


def test_an_interrupted_recording_is_closed(forking: int, tmp_path: Path) -> None:
    file = tmp_path / "whole.cow"
    with subprocess.Popen(
        [*COWTRACE, "record", "-o", file, "--interval", "0.2", "-p", str(forking)],
        stderr=subprocess.PIPE,
        text=True,
    ) as recorder:
        eventually(lambda: file.exists() and intervals(file) >= 3)
        recorder.send_signal(signal.SIGINT)
        _, errors = recorder.communicate(timeout=PATIENCE)
    assert recorder.returncode == 0, errors
    assert "Traceback" not in errors
    assert read(file).closed
    assert [path.name for path in tmp_path.iterdir()] == ["whole.cow"]


def test_it_ends_with_the_process_that_is_recorded(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "4"]) as sleeping:
        ended = subprocess.run(
            [*COWTRACE, "record", "-o", tmp_path / "f", "-p", str(sleeping.pid)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert ended.returncode == 0, ended.stderr
    assert read(tmp_path / "f").closed


def test_descendants_are_recorded_with_the_process(forking: int, tmp_path: Path) -> None:
    subprocess.run(
        [*COWTRACE, "record", "-o", tmp_path / "f", "-p", str(forking), "--for", "2"],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    last = read(tmp_path / "f").last
    assert len(last.generations) >= 3
    pids = [process.pid for process in last.processes]
    assert len(pids) == len(set(pids))
    forked = {forking, *(g.child for g in last.generations)}
    assert set(pids) >= forked
    assert len(set(pids) - forked) <= 1  # the child that was alive when recording began
    copied = sum(process.copied_bytes for process in last.processes)
    assert copied >= sum(g.copied_bytes for g in last.generations) > 0


def test_a_full_disk_ends_the_recording_and_not_the_command(small_disk: Path) -> None:
    file = small_disk / "full.cow"
    mark = small_disk.parent / "mark"
    work = FORKS.replace("while True", "for _ in range(15)")
    ended = subprocess.run(
        [*COWTRACE, "record", "-o", file, "--interval", "0.05", "--",
         sys.executable, "-c", f"{work}\nopen({str(mark)!r}, 'w')"],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert ended.returncode == EXIT_NO_ROOM, ended.stderr
    assert "no room to go on recording" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert mark.exists()  # the command went on to its end
    shutil.copytree(small_disk, small_disk.parent / "kept")
    found = read(small_disk.parent / "kept" / "full.cow")
    assert found.times
    assert found.last.processes


def test_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*COWTRACE, "record", "-o", tmp_path / "f", "--", "sh", "-c", "exit 7"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 7, ended.stderr
    found = read(tmp_path / "f")
    assert found.closed
    assert found.header.command == "sh -c 'exit 7'"


def intervals(file: Path) -> int:
    """Number of intervals written so far, as sqlite3 itself reads it."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        try:
            (number,) = database.execute("SELECT count(*) FROM interval").fetchone()
        except sqlite3.OperationalError:  # not created yet
            return 0
    return int(number)


def test_the_symbolizer_is_not_taken_for_a_part_of_the_command() -> None:
    """It was started before, so that its own faults cost nothing."""
    with tracer.attach(only=command_filter(), samples=True) as live:
        with subprocess.Popen([sys.executable, "-c", "pass"]) as command:
            command.wait(PATIENCE)
        helper = live._symbolizer._process._child
        assert helper
        assert helper.poll() is None
        counted = {process.pid for process in live.snapshot().processes}
    assert command.pid in counted  # this process may have had no fault
    assert helper.pid not in counted
