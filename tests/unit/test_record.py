"""`cowtrace record` over a made-up tracer: what it writes to the terminal that it shares."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from test_top import FAKED, read_all

from cowtrace.recording.reader import read


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
    words = "for i in 1 2 3 4 5; do printf 'half '; sleep 0.15; echo line; done"
    shown = shown_by("-o", tmp_path / "f", "--", "sh", "-c", words)
    assert shown.startswith("half line\r\n" * 5 + "cowtrace: recorded ")
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
