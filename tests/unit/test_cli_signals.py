"""cli/signals.py: signals as values, also after a stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

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
        "    print(signals.wait(time.monotonic() + 0.5))\n"
    )
    waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert waiting.stdout
    assert waiting.stdout.readline() == "ready\n"
    waiting.send_signal(signal.SIGSTOP)
    time.sleep(0.8)
    waiting.send_signal(signal.SIGCONT)
    assert waiting.communicate(timeout=30)[0] == "None\n"
