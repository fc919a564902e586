"""Settings are as before when a workload has ended, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cowtrace.workloads import settings
from cowtrace.workloads.features import Unsupported

HOLD = """
import sys, time
from cowtrace.workloads import settings
with settings.changed({sys.argv[1]: "new"}):
    print("changed", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    path = tmp_path / "setting"
    path.write_text("old")
    return path


def test_restored_at_the_end(setting: Path) -> None:
    with settings.changed({str(setting): "new"}):
        assert setting.read_text() == "new"
    assert setting.read_text() == "old"


def test_restored_after_an_exception(setting: Path) -> None:
    with pytest.raises(ZeroDivisionError), settings.changed({str(setting): "new"}):
        raise ZeroDivisionError
    assert setting.read_text() == "old"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_restored_when_killed(setting: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(setting)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"changed\n"
        assert setting.read_text() == "new"
        holder.send_signal(number)
    end = time.monotonic() + 30
    while setting.read_text() != "old" and time.monotonic() < end:
        time.sleep(0.01)
    assert setting.read_text() == "old"


def test_the_second_in_a_row_waits_for_the_first(setting: Path) -> None:
    with settings.changed({str(setting): "new"}):
        other = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(setting)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        time.sleep(0.2)
    with other:
        assert other.stdout
        other.stdout.readline()
        other.kill()
    end = time.monotonic() + 30
    while setting.read_text() != "old" and time.monotonic() < end:
        time.sleep(0.01)
    assert setting.read_text() == "old", "it took the first one's value for the old one"


def test_the_word_that_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    assert settings.read(str(path)) == "madvise"
    path.write_text("100\n")
    assert settings.read(str(path)) == "100"


def test_a_setting_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(Unsupported, match="No such file"), settings.changed({missing: "1"}):
        pass


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(Unsupported, match="no program"):
        settings.run("cowtrace-no-such-program")


def test_what_was_changed_last_is_restored_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One can depend on the other."""
    restored: list[str] = []

    @contextmanager
    def restored_by(script: str, *arguments: str, locks: object = ()) -> Iterator[None]:
        restored.extend(arguments)
        yield

    monkeypatch.setattr(settings, "restored_by", restored_by)
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_text("old")
    with settings.changed({str(path): "new" for path in paths}):
        pass
    assert restored == [str(paths[1]), "old", str(paths[0]), "old"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_what_restores_outlives_signals_to_everybody(setting: Path, number: signal.Signals) -> None:
    with settings.changed({str(setting): "new"}):
        end = time.monotonic() + 30
        while not (ready := guardians(ignoring=number)) and time.monotonic() < end:
            time.sleep(0.01)  # it has just been started
        (guardian,) = ready
        os.kill(guardian, number)
    assert setting.read_text() == "old"


def guardians(*, ignoring: int) -> list[int]:
    """The shells that this process has started to restore settings, once they ignore a signal."""
    found = []
    for listing in Path("/proc/self/task").glob("*/children"):
        for pid in listing.read_text().split():
            status = Path("/proc", pid, "status").read_text()
            ignored = int(status.partition("\nSigIgn:")[2].split(None, 1)[0], 16)
            if b"read -r _" in Path("/proc", pid, "cmdline").read_bytes():
                found += [int(pid)] * (ignored >> ignoring - 1 & 1)
    return found
