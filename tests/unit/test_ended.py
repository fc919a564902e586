"""When the processes that -p names have ended, by their descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from snapshots import FakeTracer, snapshot

import cowtrace.tracer
from cowtrace import cli
from cowtrace.cli.ended import have_ended


@contextmanager
def waiting() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its stdin is closed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:  # fmt: skip
        yield process


def end(process: subprocess.Popen[bytes]) -> None:
    """It becomes a zombie: nobody has waited for it."""
    assert process.stdin
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_all_of_them_must_have_ended() -> None:
    with waiting() as one, waiting() as other, have_ended([one.pid, other.pid]) as ended:
        assert not ended()
        end(one)
        assert not ended()
        assert not ended()
        end(other)
        assert ended()
        assert ended()


def test_one_that_ended_before_is_no_error() -> None:
    with waiting() as gone:
        end(gone)
    with waiting() as one, have_ended([gone.pid, one.pid]) as ended:
        assert not ended()
        end(one)
        assert ended()


def test_without_processes_there_is_no_end() -> None:
    with have_ended([]) as ended:
        assert not ended()


@pytest.mark.parametrize("command", ["top", "maps", "objects", "stacks"])
def test_a_live_command_ends_with_its_process(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It ends by itself, after a last table; with COUNT, by that alone."""
    with waiting() as process:
        readings = 0

        class Ending(FakeTracer):
            def snapshot(self) -> object:  # type: ignore[override]
                nonlocal readings
                readings += 1
                if readings == 2:
                    end(process)
                return super().snapshot()

        monkeypatch.setattr(cowtrace.tracer, "attach", lambda *_, **__: Ending(snapshot()))
        result = CliRunner().invoke(cli.main, [command, "-p", str(process.pid), "--json", "0.05"])
        assert result.exit_code == 0, result.output
        assert len(result.stdout.splitlines()) == 3
