"""cli/signals.py: signals as values, also after a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from cowtrace.cli import launch
from cowtrace.cli.launch import follow
from cowtrace.cli.live import ticks
from cowtrace.cli.signals import from_process

# In a process of its own: another thread of the tests would take the signal, and end them.
HELD = """
import os, signal, time
from cowtrace.cli.signals import from_process, held

before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
with held(signal.SIGUSR1) as signals:
    assert signals.mask_before == before
    assert signals.wait(time.monotonic()) is None
    os.kill(os.getpid(), signal.SIGUSR1)
    info = signals.wait(None)
    assert info is not None
    assert info.si_signo == signal.SIGUSR1
    assert from_process(info)
    os.kill(os.getpid(), signal.SIGUSR1)  # not taken: dropped, else it would end the process
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
print("the end")
"""


def test_a_held_signal_is_a_value() -> None:
    ended = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the end\n", "")


def test_a_stop_past_the_deadline_is_no_signal() -> None:
    code = (
        "import signal, time\n"
        "from cowtrace.cli.signals import held\n"
        "with held(signal.SIGINT) as signals:\n"
        "    print('ready', flush=True)\n"
        "    print(signals.wait(time.monotonic() + 0.3))\n"
    )
    waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert waiting.stdout
    assert waiting.stdout.readline() == "ready\n"
    waiting.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    waiting.send_signal(signal.SIGCONT)
    assert waiting.communicate(timeout=30)[0] == "None\n"


def info(number: int, code: int) -> Any:
    return SimpleNamespace(si_signo=number, si_code=code)


def test_the_terminals_signals_are_not_those_of_a_process() -> None:
    si_user, si_tkill, si_kernel = 0, -6, 0x80
    assert [from_process(info(2, code)) for code in (si_user, si_tkill, si_kernel)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(("code", "passed_on"), [(0, [(42, signal.SIGTERM)]), (0x80, [])])
def test_only_what_a_process_sent_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, code: int, passed_on: list[tuple[int, int]]
) -> None:
    """The terminal sends its signals to the command as well."""
    sent = []
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
    monkeypatch.setattr(launch, "ended", lambda pid: 7)
    coming = iter([info(signal.SIGTERM, code), info(signal.SIGCHLD, 1)])
    signals: Any = SimpleNamespace(wait=lambda deadline: next(coming))
    shown: Any = SimpleNamespace()
    assert follow(42, signals, 60.0, lambda: None, shown) == 7
    assert sent == passed_on


def test_a_late_refresh_does_not_move_those_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now, deadlines = 0.0, []

    def wait(deadline: float) -> None:
        nonlocal now
        deadlines.append(deadline)
        now = deadline + 0.25

    monkeypatch.setattr(time, "monotonic", lambda: now)
    signals: Any = SimpleNamespace(wait=wait)
    assert len(list(ticks(signals, 1.0, 4, None))) == 4
    assert deadlines == [1.0, 2.0, 3.0, 4.0]


def test_within_an_interval_it_looks_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = 0.0, []

    def wait(deadline: float) -> None:
        nonlocal now
        now = deadline

    monkeypatch.setattr(time, "monotonic", lambda: now)
    signals: Any = SimpleNamespace(wait=wait)
    for _ in ticks(signals, 2.5, 2, look=lambda: looks.append(now)):
        looks.append(-now)
    assert looks == [1.0, 2.0, -2.5, 3.5, 4.5, -5.0]


STUCK = """
import ctypes, signal
from cowtrace.cli import signals
signals._LOOK_SECONDS, signals._STUCK_SECONDS, signals._MOST_SECONDS = 0.05, 0.2, 0.5
with signals.held(signal.SIGTERM, signal.SIGINT) as held:
    held.wait(0)
    def read_everything():
        print("reading", flush=True)
        while {works} or not ctypes.CDLL(None).sleep(60):
            pass
    read_everything()
"""


@pytest.mark.parametrize("works", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_never_returns_is_ended_and_says_where(number: signal.Signals, works: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK.format(works=works)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as stuck:  # fmt: skip
        assert stuck.stdout
        assert stuck.stdout.readline() == "reading\n"
        stuck.send_signal(number)
        _, said = stuck.communicate(timeout=30)
    assert stuck.returncode == 128 + number
    first, hint = said.splitlines()
    assert first.startswith(f"cowtrace: {number.name} ended it in read_everything() of ")
    assert hint.startswith("Hint: ")


TAKEN = """
import os, signal, time
from cowtrace.cli import signals
signals._LOOK_SECONDS, signals._STUCK_SECONDS = 0.01, 0.3
with signals.held(signal.SIGTERM) as held:
    held.wait(0)
    for _ in range(12):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        assert held.wait(None)
print("the end")
"""


WORKS = """
import signal, time
from cowtrace.cli import signals
signals._LOOK_SECONDS, signals._STUCK_SECONDS = 0.01, 0.3
with signals.held(signal.SIGTERM) as held:
    held.wait(0)
    signal.raise_signal(signal.SIGTERM)
    while time.thread_time() < 0.7:
        pass
    assert held.wait(None)
print("the end")
"""


@pytest.mark.parametrize("code", [TAKEN, WORKS], ids=["taken", "works"])
def test_signals_that_are_taken_in_time_end_nothing(code: str) -> None:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the end\n", "")
