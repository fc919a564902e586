"""Block signals and take them one at a time between two refreshes.

A handler could run in the middle of a redraw or of reading a map; a blocked signal cannot. Its
siginfo also shows whether the terminal or another process sent it. A refresh that is stuck would
never take one: then a thread ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
_LOOK_SECONDS = 1.0
_STUCK_SECONDS = 8.0  # without any CPU time
_MOST_SECONDS = 60.0


@dataclass(slots=True)
class Held:
    """The blocked signals, and the mask from before, which a command is started with."""

    signals: frozenset[int]
    mask_before: frozenset[int]
    command: int | None = None  # the pid of a command that signals are forwarded to
    _watch: threading.Thread | None = None
    _waits: int = 0

    def wait(self, deadline: float | None) -> signal.struct_siginfo | None:
        """The next held signal, or None when time.monotonic() passes `deadline` (None: never)."""
        if self._watch is None:  # not before: privileges are dropped while there is one thread
            self._watch = threading.Thread(target=self._end_if_stuck, daemon=True)
            self._watch.start()
        self._waits += 1
        if deadline is None:
            return signal.sigwaitinfo(self.signals)
        info = signal.sigtimedwait(self.signals, max(0.0, deadline - time.monotonic()))
        # After a stop and SIGCONT past the deadline, CPython returns an uninitialised siginfo.
        return info if info and info.si_signo in self.signals else None

    def _end_if_stuck(self) -> None:
        """End the process when a signal that should end it is not taken for long."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)
        waits, since, used, idle_since = 0, 0.0, 0.0, 0.0
        while True:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            if used != (used := time.clock_gettime(clock)):
                idle_since = now
            pending = signal.sigpending() & self.signals & _ENDING
            if not pending or waits != self._waits:
                waits, since, idle_since = self._waits, now, now
            elif now - idle_since > _STUCK_SECONDS or now - since > _MOST_SECONDS:
                _end(signal.Signals(min(pending)), now - since, self.command)


def _end(received: signal.Signals, waited_seconds: float, command: int | None) -> None:
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    where = f"{frame.f_code.co_name}() of {Path(frame.f_code.co_filename).name}"
    shown = "\x1b[?25h\r\n" if os.isatty(2) else ""  # the cursor, which a live table hides
    os.write(
        2,
        f"{shown}cowtrace: {received.name} ended it in {where}, which did not return for "
        f"{waited_seconds:.0f} s\nHint: what it had not written yet is missing; report this with "
        "`cowtrace doctor`\n".encode(),
    )
    if command is not None:
        with suppress(ProcessLookupError):
            os.kill(command, received)
    os._exit(128 + received)


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
