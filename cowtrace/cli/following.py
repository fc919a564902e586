"""A command that cowtrace started, until it ends: signals passed on, a look at each interval."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol

from cowtrace.cli import launch
from cowtrace.cli.signals import Held, from_process, take_stop
from cowtrace.model import Snapshot

PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
HELD = (*PASSED_ON, signal.SIGCHLD, signal.SIGTSTP, signal.SIGWINCH)


class Shown(Protocol):
    """What is on the terminal meanwhile."""

    def resized(self) -> None: ...

    def release(self) -> None: ...


def follow(
    pid: int, signals: Held, interval: float | None, look: Callable[[], None], screen: Shown
) -> int:
    """Wait for the command; its exit code. `look` at each interval (None: never)."""
    deadline = time.monotonic() + interval if interval else None
    while True:
        info = signals.wait(deadline)
        if info is None and interval:
            look()
            deadline = time.monotonic() + interval
        elif info is None:
            continue
        elif info.si_signo == signal.SIGCHLD:
            if (code := launch.ended(pid)) is not None:
                return code
        elif info.si_signo == signal.SIGWINCH:
            screen.resized()
        elif info.si_signo == signal.SIGTSTP:
            screen.release()
            take_stop()
        elif from_process(info):
            with suppress(ProcessLookupError):
                os.kill(pid, info.si_signo)


def family(now: Snapshot, pid: int) -> Snapshot:
    """The command and all its descendants."""
    pids = now.families([pid])
    return now.only(process for process in now.processes if process.pid in pids)


def families(now: Snapshot, pids: Collection[int]) -> Snapshot:
    """These and their descendants, where the kernel's filter lets only their faults pass.

    A descendant that was born before attach is known by its faults alone. Everything without pids.
    """
    if not pids:
        return now
    roots = {*pids, *(p.pid for p in now.processes if p.parent is None and p.faults)}
    members = now.families(roots)
    return now.only(process for process in now.processes if process.pid in members)
