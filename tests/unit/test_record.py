"""`cowtrace record` over a made-up tracer: what it writes to the terminal that it shares."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from snapshots import SECOND, FakeTracer, snapshot
from test_top import FAKED, read_all

from cowtrace import tracer
from cowtrace.cli import main
from cowtrace.cli.choice import Choice
from cowtrace.cli.record import _only
from cowtrace.errors import EXIT_NO_ROOM
from cowtrace.model import Snapshot
from cowtrace.recording.reader import read
from cowtrace.recording.writer import NoRoom, Writer


def shown_by(*arguments: str | Path) -> str:
    """All that appears on a terminal that is stdout and stderr."""
    main_end, terminal = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, FAKED, "record", "--interval", "0.1", *arguments],
        env={**os.environ, "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = read_all(main_end)
    assert running.wait(timeout=30) == 0, shown
    return shown


def test_what_the_command_writes_is_whole(tmp_path: Path) -> None:
    words = "for i in 1 2 3; do printf 'half '; sleep 0.15; echo line; done"
    shown = shown_by("-o", tmp_path / "f", "--", "sh", "-c", words)
    assert shown.startswith("half line\r\n" * 3 + "cowtrace: recorded ")
    assert "\x1b" not in shown


def test_without_a_command_a_line_says_how_far_it_is(tmp_path: Path) -> None:
    shown = shown_by("-o", tmp_path / "f", "--for", "0.4")
    assert "\r\x1b[Kcowtrace: recording, 0." in shown
    assert "cowtrace: recorded 0." in shown


def test_the_memory_that_is_left_is_recorded(tmp_path: Path) -> None:
    shown_by("-o", tmp_path / "f", "--for", "0.2")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = read(tmp_path / "f")
    assert len(found.available) == len(found.times) >= 2
    assert all(held is not None and 0 < held <= total for held in found.available)
    assert found.header.asked == {"generation", "mapping", "latency", "samples"}


@pytest.mark.parametrize("arguments", [["-p", "1", "--", "true"], ["--for", "1", "--", "true"]])
def test_a_command_ends_by_itself(tmp_path: Path, arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, FAKED, "record", "-o", tmp_path / "f", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 2
    assert "-p and --for cannot be combined with COMMAND" in ended.stderr


def record(
    monkeypatch: pytest.MonkeyPatch, live: FakeTracer, *arguments: str | Path
) -> tuple[int, str]:
    """In this process: its exit code, and what it says."""
    monkeypatch.setattr(tracer, "attach", lambda *_, **options: live)
    ran = CliRunner().invoke(main, ["record", *map(str, arguments)])
    return ran.exit_code, ran.stderr


def test_a_command_that_ends_within_an_interval_is_recorded(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, FAKED, "record", "-o", tmp_path / "f", "--interval", "60", "--", "true"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    assert len(read(tmp_path / "f").times) == 1


def test_how_to_read_the_file_is_said_unless_the_caller_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = ("--interval", "0.1", "--for", "0.1")
    for name, more, hinted in (("f", (), True), ("g", ("--no-hint",), False)):
        live = FakeTracer(snapshot())
        _, said = record(monkeypatch, live, "-o", tmp_path / name, *soon, *more)
        assert "cowtrace: recorded " in said
        assert ("Read it: cowtrace report" in said) is hinted


def test_a_full_disk_has_an_exit_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Writer, *_: object) -> None:
        raise NoRoom(tmp_path / "f")

    monkeypatch.setattr(Writer, "add", full)
    soon = ("--interval", "0.1", "--for", "0.1")
    code, said = record(monkeypatch, FakeTracer(snapshot()), "-o", tmp_path / "f", *soon)
    assert code == EXIT_NO_ROOM
    assert said.splitlines()[-1].startswith("Hint: ")


def test_it_goes_on_while_one_of_the_processes_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = FakeTracer(*(snapshot(at=at) for at in range(1, 99)))
    with subprocess.Popen(["sleep", "0.2"]) as short:
        both = ("-p", os.getpid(), "-p", short.pid)
        record(
            monkeypatch, live, "-o", tmp_path / "f", "--interval", "0.1", "--for", "0.5",
            *map(str, both),
        )  # fmt: skip
    assert len(read(tmp_path / "f").times) == 5


def test_it_ends_in_time_where_intervals_take_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(FakeTracer):
        def snapshot(self) -> Snapshot:
            time.sleep(0.2)
            return super().snapshot()

    live = Slow(*(snapshot(at=at) for at in range(1, 99)))
    record(monkeypatch, live, "-o", tmp_path / "f", "--interval", "0.1", "--for", "0.7")
    assert 2 <= len(read(tmp_path / "f").times) <= 4


def test_the_whole_time_is_recorded_where_writing_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []

    class Timed(FakeTracer):
        def snapshot(self) -> Snapshot:
            times.append(time.monotonic())
            return super().snapshot()

    add = Writer.add

    def slow(self: Writer, *arguments: Any) -> None:
        add(self, *arguments)
        time.sleep(0.3)

    monkeypatch.setattr(Writer, "add", slow)
    live = Timed(*(snapshot(at=at) for at in range(1, 99)))
    record(monkeypatch, live, "-o", tmp_path / "f", "--interval", "0.1", "--for", "0.25")
    assert times[-1] - times[0] >= 0.25


def test_descendants_are_recorded_with_their_ancestors() -> None:
    assert _only(Choice(names=((23, "a"),)), command=False).follow
    assert not _only(Choice(), command=False).follow


def test_the_start_is_when_the_probes_were_attached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = snapshot()
    record(monkeypatch, FakeTracer(now), "-o", tmp_path / "f", "--interval", "0.1", "--for", "0.1")
    ago_ns = time.monotonic_ns() - now.attached_ns
    started_ns = read(tmp_path / "f").header.started_unix_ns
    assert abs(started_ns - (time.time_ns() - ago_ns)) < 60 * SECOND
