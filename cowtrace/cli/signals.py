"""Block signals and take them one at a time between two refreshes.

A handler could run in the middle of a redraw or of reading a map; a blocked signal cannot. Its
siginfo also shows whether the terminal or another process sent it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Held:
    """The blocked signals, and the mask from before, which a command is started with."""

    signals: frozenset[int]
    mask_before: frozenset[int]

    def wait(self, deadline: float | None) -> signal.struct_siginfo | None:
        """The next held signal, or None when time.monotonic() passes `deadline` (None: never)."""
        if deadline is None:
            return signal.sigwaitinfo(self.signals)
        info = signal.sigtimedwait(self.signals, max(0.0, deadline - time.monotonic()))
        # After a stop and SIGCONT past the deadline, CPython returns an uninitialised siginfo.
        return info if info and info.si_signo in self.signals else None


@contextmanager
def held(*signals: int) -> Iterator[Held]:
    """Block these signals within the context; drop those that are pending at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield Held(frozenset(signals), frozenset(before))
    finally:
        while signal.sigtimedwait(signals, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_stop() -> None:
    """Stop, since SIGTSTP was held; return after SIGCONT.

    With SIGTSTP, not SIGSTOP: the kernel drops it where no shell could continue the process.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})


def from_process(info: signal.struct_siginfo) -> bool:
    """True if a process sent it. A signal of the terminal already reaches the whole group."""
    return info.si_code <= 0  # SI_USER and its like; SI_KERNEL is positive
