"""`cowtrace top` over a made-up tracer: what it shows, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from snapshots import FakeTracer, process, row, snapshot

from cowtrace import tracer
from cowtrace.cli import main
from cowtrace.model import FaultKind

FAKED = str(Path(__file__).with_name("faked.py"))
BUSY = process(1, "busy", row(FaultKind.COPIED, 23))
OTHER = process(2, "other", row(FaultKind.COPIED, 509))
IDLE = process(os.getpid(), "idle")

Top = Callable[..., Result]


@pytest.fixture
def top(monkeypatch: pytest.MonkeyPatch) -> Top:
    def run(*arguments: str, counts: FakeTracer | None = None) -> Result:
        live = counts or FakeTracer(snapshot(BUSY, OTHER, IDLE))
        asked: dict[str, Any] = {}

        def attach(plan: str = "auto", **options: Any) -> FakeTracer:
            asked.update(options, plan=plan)
            return live

        monkeypatch.setattr(tracer, "attach", attach)
        result = CliRunner().invoke(main, ["top", *arguments])
        assert live.closed or not asked
        return result

    return run


def pids(shown: str) -> list[int]:
    return [int(line.split()[0]) for line in shown.splitlines() if line[:7].strip().isdigit()]


def test_a_block_for_each_interval(top: Top) -> None:
    counts = FakeTracer(snapshot(BUSY, at=1), snapshot(BUSY, OTHER, at=2))
    result = top("0.05", "2", counts=counts)
    assert result.exit_code == 0
    assert [pids(block) for block in result.output.split("\n\n")] == [[1], [2, 1]]
    assert "\x1b" not in result.output


def test_sort_rows_and_names(top: Top) -> None:
    assert pids(top("0.05", "1").output) == [2, 1]
    assert pids(top("--sort", "pid", "0.05", "1").output) == [1, 2]
    assert pids(top("--sort", "COMM", "0.05", "1").output) == [1, 2]
    assert pids(top("--rows", "1", "0.05", "1").output) == [2]
    assert pids(top("--comm", "b*", "0.05", "1").output) == [1]
    assert "1 of 3 processes" in top("--comm", "b*", "0.05", "1").output


def test_a_named_pid_is_shown_without_a_fault(top: Top) -> None:
    me = str(os.getpid())
    assert pids(top("-p", me, "0.05", "1").output) == [os.getpid()]
    unseen = FakeTracer(snapshot(BUSY))  # it had no fault of any kind
    result = top("-p", me, "-p", "1", "0.05", "1", counts=unseen)
    assert pids(result.output) == [1, os.getpid()]


def test_no_such_pid(top: Top) -> None:
    result = top("-p", "4194305")
    assert result.exit_code == 1
    assert (
        result.stderr
        == "cowtrace: no process has the PID 4194305\nHint: list the processes: ps -e\n"
    )


def test_a_thread_is_no_process(top: Top) -> None:
    sleeper = subprocess.Popen(
        [sys.executable, "-c", "import threading\n"
         "t = threading.Thread(target=input); t.start(); print(t.native_id, flush=True)"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert sleeper.stdout
    tid = sleeper.stdout.readline().strip()
    result = top("-p", tid)
    sleeper.communicate("\n")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"Hint: name the process: -p {sleeper.pid}"


@pytest.mark.parametrize(
    "arguments", [["--sort", "size"], ["0"], ["-1"], ["1", "0"], ["-p", "0"], ["--attach", "x"]]
)
def test_usage_errors(top: Top, arguments: list[str]) -> None:
    assert top(*arguments).exit_code == 2


def test_an_unknown_column_names_the_choices(top: Top) -> None:
    assert "'rate', 'bytes', 'faults', 'copied'" in top("--sort", "size").stderr


def test_json_lines(top: Top) -> None:
    counts = FakeTracer(snapshot(BUSY, at=1), snapshot(BUSY, OTHER, at=2))
    result = top("--json", "0.05", "2", counts=counts)
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert [p["pid"] for p in first["processes"]] == [1]
    assert [p["pid"] for p in second["processes"]] == [1, 2]
    assert second["processes"][0]["copied_bytes_per_second"] == 0


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_last_table(end: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = subprocess.Popen(
        [sys.executable, FAKED, "top", "0.1"],
        env={**os.environ, "FAKED_LOG": str(log)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout
    assert running.stdout.readline().split()[0] == "PID"
    running.send_signal(end)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (0, "")
    assert pids(out)[-1] == running.pid
    assert log.read_text() == "attached\nclosed\n"


def test_on_a_terminal_the_table_stays_and_so_does_the_cursor(tmp_path: Path) -> None:
    main_end, terminal = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, FAKED, "top", "0.1", "3"],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = read_all(main_end)
    assert running.wait(timeout=30) == 0
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")
    assert shown.count("COMM") >= 3
    # An older rich changes the style, to the same one, between two words.
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown[shown.rfind("COMM") :])
    assert "unclassified 0, lost 0" in last


def read_all(fd: int) -> str:
    """What is written to a terminal until its last writer is gone."""
    pieces = []
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:  # EIO: no writer is left
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(fd)
    return b"".join(pieces).decode()


def test_named_pids_are_shown_beyond_the_rows(top: Top) -> None:
    assert sorted(pids(top("--rows", "1", "-p", "1", "-p", "2", "0.05", "1").output)) == [1, 2]
