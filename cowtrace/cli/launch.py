"""Start a command as a shell would, and wait for its exit code."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from cowtrace.cli.signals import Held
from cowtrace.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, CowtraceError
from cowtrace.text import printable


def resolve(command: str) -> str:
    """The program's path, looked up as execvp(3) does.

    Raises CowtraceError: 127 when there is none, 126 when it is there but may not be executed.
    """
    if path := shutil.which(command):
        return path
    folders = [""] if "/" in command else os.get_exec_path()
    if any((Path(folder) / command).exists() for folder in folders):
        raise _not_executable(command, "no execute permission, or a folder")
    raise CowtraceError(
        f"command not found: {printable(command)}",
        hint="check its spelling, or give its path; cowtrace looks in PATH",
        exit_code=EXIT_NOT_FOUND,
    )


def start(program: str, command: Sequence[str], held: Held, *, stdout_to_stderr: bool) -> int:
    """Start the command in this process group and return its pid.

    It begins with the signal mask from before `held`, and with the default for what Python
    ignores (SIGPIPE, SIGXFSZ). Raises CowtraceError when the kernel cannot execute it.
    """
    redirect = [(os.POSIX_SPAWN_DUP2, 2, 1)] if stdout_to_stderr else []
    try:
        return os.posix_spawn(
            program,
            tuple(command),
            os.environ,
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
    """Its exit code, 128 + N when signal N ended it; None while it runs."""
    reaped, status = os.waitpid(pid, os.WNOHANG)
    if not reaped:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _not_executable(command: str, why: str) -> CowtraceError:
    return CowtraceError(
        f"cannot execute {printable(command)}: {why}",
        hint="a program needs chmod +x; a script also needs a first line such as #!/bin/sh",
        exit_code=EXIT_NOT_EXECUTABLE,
    )
