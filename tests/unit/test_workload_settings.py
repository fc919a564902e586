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

# Python looks for a signal between two sleeps: one that comes just before a sleep does not end it.
HOLD = """
import sys, time
from cowtrace.workloads import settings
with settings.changed({sys.argv[1]: "new"}):
    print("changed", flush=True)
    while True:
        time.sleep(0.1)
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


def test_a_lock_that_another_user_holds_stops_nobody() -> None:
    """Everybody may read a setting of the kernel, and lock what may be read."""
    path = Path("/proc/sys/vm/overcommit_memory")
    if os.geteuid() != 0 or not os.access(path, os.W_OK):
        pytest.skip("only root can write it, and start a process of another user")
    hold = (
        f"import fcntl; file = open({str(path)!r})\n"
        "fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); input()"
    )
    with subprocess.Popen(
        ["/usr/bin/python3", "-I", "-c", hold], user=65534, group=65534, extra_groups=[],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout
        assert holder.stdout.readline() == "\n"
        with late(), settings.changed({str(path): path.read_text().strip()}):
            pass
        holder.communicate("\n")


@contextmanager
def late() -> Iterator[None]:
    """Raise TimeoutError after a while."""

    def alarm(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(20)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_the_swap_file_is_out_of_others_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that they guess the name of would lead swapoff to the system's own."""
    planted = Path(f"/var/tmp/cowtrace-swap-{os.getpid()}")
    planted.symlink_to(tmp_path / "swap")
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(settings, "run", lambda *command: ran.append(command))
    try:
        with settings._file_swap(1 << 20):
            path = Path(ran[-1][-1])
            assert path.stat().st_size == 1 << 20
            assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (
                0o600,
                0o700,
            )
        assert not path.parent.exists()
        assert planted.is_symlink()
    finally:
        planted.unlink(missing_ok=True)
