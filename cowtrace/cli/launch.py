"""Start a command as a shell would, forward signals to it, and wait for its exit code."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Protocol

from cowtrace.cli.command_user import User, acting_as, environment
from cowtrace.cli.signals import Held, from_process, take_stop
from cowtrace.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, CowtraceError
from cowtrace.text import printable

PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
HELD = (*PASSED_ON, signal.SIGCHLD, signal.SIGTSTP, signal.SIGWINCH)


def resolve(command: str, user: User | None = None) -> str:
    """Find the program's path as execvp(3) does for that user.

    Raises CowtraceError: exit code 127 if it does not exist, 126 if it is not executable.
    """
    with acting_as(user) if user else nullcontext():  # a folder of PATH may be root's alone
        path = shutil.which(command)
    if path:
        return path
    folders = [""] if "/" in command else os.get_exec_path()
    if any((Path(folder) / command).exists() for folder in folders):
        raise _not_executable(command, "no execute permission, or a folder")
    raise CowtraceError(
        f"command not found: {printable(command)}",
        hint="check its spelling, or give its path; cowtrace looks in PATH",
        exit_code=EXIT_NOT_FOUND,
    )


def start(
    program: str,
    command: Sequence[str],
    held: Held,
    *,
    stdout_to_stderr: bool,
    user: User | None = None,
) -> int:
    """Start the command in this process group, as `user` if one is given; return its pid.

    It begins with the signal mask from before `held`, and with the default for what Python
    ignores (SIGPIPE, SIGXFSZ). Raises CowtraceError when the kernel cannot execute it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # SIG_IGN would reap the command
    redirect = [(os.POSIX_SPAWN_DUP2, 2, 1)] if stdout_to_stderr else []
    variables = given() | (environment(user) if user else {})  # before: /proc/self is root's then
    try:
        with acting_as(user) if user else nullcontext():
            return os.posix_spawn(
                program,
                tuple(command),
                variables,
                file_actions=redirect,
                setsigmask=held.mask_before,
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            )
    except OSError as error:
        why = os.strerror(error.errno or 0)
        if error.errno == errno.ENOENT:
            why = "its interpreter is missing"
        raise _not_executable(command[0], why) from None


def ended(pid: int) -> int | None:
    """Return the exit code of a child, 128 + N if signal N ended it; None while it runs."""
    reaped, status = os.waitpid(pid, os.WNOHANG)
    if not reaped:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


class End:
    """Notes when a child ends, and leaves it to be reaped.

    In a thread: where a reading takes long, this process reaps the child long after its end.
    """

    def __init__(self, pid: int) -> None:
        self._at_ns: int | None = None
        threading.Thread(target=self._wait, args=(pid,), daemon=True).start()

    def at_ns(self) -> int:
        """CLOCK_MONOTONIC. For a child that has been reaped: at the latest, now."""
        return time.monotonic_ns() if self._at_ns is None else self._at_ns

    def _wait(self, pid: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with suppress(ChildProcessError):  # it was reaped before this thread could look
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            self._at_ns = time.monotonic_ns()


class Shown(Protocol):
    """What the terminal shows while the command runs."""

    def resized(self) -> None: ...

    def release(self) -> None: ...


def follow(
    pid: int, signals: Held, interval: float, look: Callable[[], None], screen: Shown
) -> int:
    """Wait until the command ends and return its exit code; forward signals to it.

    Calls `look` at each interval.
    """
    signals.command = pid
    deadline = time.monotonic() + interval
    while True:
        info = signals.wait(deadline)
        if info is None:
            look()
            deadline = time.monotonic() + interval
        elif info.si_signo == signal.SIGCHLD:
            if (code := ended(pid)) is not None:
                return code
        elif info.si_signo == signal.SIGWINCH:
            screen.resized()
        elif info.si_signo == signal.SIGTSTP:
            screen.release()
            take_stop()
        elif from_process(info):
            with suppress(ProcessLookupError):
                os.kill(pid, info.si_signo)


def given() -> dict[str, str]:
    """The environment that cowtrace was started with: in a C locale Python adds LC_CTYPE."""
    began = Path("/proc/self/environ").read_bytes().split(b"\0")
    added = set() if any(each.startswith(b"LC_CTYPE=") for each in began) else {"LC_CTYPE"}
    return {name: value for name, value in os.environ.items() if name not in added}


def _not_executable(command: str, why: str) -> CowtraceError:
    return CowtraceError(
        f"cannot execute {printable(command)}: {why}",
        hint="a program needs chmod +x; a script also needs a first line such as #!/bin/sh",
        exit_code=EXIT_NOT_EXECUTABLE,
    )
