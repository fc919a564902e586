"""What takes long is said on stderr, once."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from cowtrace.cli import attach
from cowtrace.cli.launch import HELD


def test_what_takes_long_is_said(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "_PATIENCE_SECONDS", 0.01)
    with attach.waiting("making tea"):
        time.sleep(0.2)
    assert capfd.readouterr().err == "cowtrace: making tea\n"


def test_what_is_soon_done_is_not_said(capfd: pytest.CaptureFixture[str]) -> None:
    with attach.waiting("making tea"):
        pass
    assert capfd.readouterr().err == ""


def test_a_signal_that_is_held_for_later_does_not_come_to_its_thread() -> None:
    """Which may outlive the block by a moment: `cowtrace run` missed the end of its command."""
    before = {int(task.name) for task in Path("/proc/self/task").iterdir()}
    with attach.waiting("nothing"):
        (thread,) = {int(task.name) for task in Path("/proc/self/task").iterdir()} - before
        status = Path(f"/proc/self/task/{thread}/status").read_text()
    blocked = int(re.findall(r"^SigBlk:\t(\w+)$", status, re.MULTILINE)[0], 16)
    for each in HELD:
        assert blocked >> (each - 1) & 1, each
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
