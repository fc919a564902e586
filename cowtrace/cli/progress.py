"""Ask a command how far a child is, again and again: `--progress COMMAND`.

The command is the user's own, and runs in a process that is started before the probes are attached:
a tracer that has given up its privileges executes nothing. That process only writes to a pipe.
"""

from __future__ import annotations

import math
import os
import subprocess

import click

from cowtrace import child
from cowtrace.analysis.forecaster import Progress
from cowtrace.cli.choice import Choice
from cowtrace.cli.options import notice, usage_error
from cowtrace.libc import end_with
from cowtrace.text import fit, printable

# The last lines of INFO that this needs; a save that has not begun prints nothing.
REDIS = (
    "redis-cli info | awk -F: '/^current_save_keys_processed/ {done = $2}"
    " /^current_save_keys_total/ {all = $2} /^total_commands_processed/ {work = $2}"
    " END {if (all + 0) print done / all, work + 0}'"
)
_LOOP = 'while :; do timeout 5 sh -c "$1" || echo exit code $?; sleep "$2"; done'
_MOST_BYTES = 1 << 16  # of output that are read at once
_LONGEST = 256  # characters of a line

progress_option = click.option(
    "--progress", metavar="COMMAND",
    help="Ask COMMAND how far the child is: it prints a number from 0 to 1, and after it, if it "
    "can, a counter of the writers' work. 'redis' asks redis-cli.",
)  # fmt: skip


class ProgressHook:
    """The last answer of a command that runs every so many seconds."""

    def __init__(self, command: str, seconds: float) -> None:
        parent = os.getpid()
        # The kernel ends it with this process, also where that is killed.
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _LOOP, "sh", REDIS if command == "redis" else command, str(seconds)],
            env=child.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it would be written into the table
            preexec_fn=lambda: end_with(parent),  # there is one thread
        )
        assert self._process.stdout
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._rest = b""
        self._complained = False

    def latest(self) -> Progress | None:
        """The newest since the last call; None: there is none, or it is no number."""
        try:
            new = os.read(self._pipe, _MOST_BYTES)
        except BlockingIOError:
            return None
        *lines, self._rest = (self._rest + new).split(b"\n")
        self._rest = self._rest[-_LONGEST:]
        if not lines:
            return None
        text = lines[-1][:_LONGEST].decode(errors="backslashreplace")
        found = parsed(text)
        if found is None and text.strip() and not self._complained:
            self._complained = True
            notice(f"--progress: not a number from 0 to 1: {fit(printable(text), 40)}")
        return found


def hook(command: str | None, choice: Choice, seconds: float) -> ProgressHook | None:
    """Start it, if there is a command. Raises click.UsageError: no single process is chosen."""
    if command is None:
        return None
    if len(choice.pids) != 1:
        raise usage_error("--progress needs one -p", "name the process whose children save: -p PID")
    return ProgressHook(command, seconds)


def parsed(line: str) -> Progress | None:
    """`0.25` or `0.25 12345`; None: neither."""
    words = line.split()
    try:
        numbers = [float(word) for word in words[:2]]
    except ValueError:
        return None
    if not numbers or not all(map(math.isfinite, numbers)) or not 0 <= numbers[0] <= 1:
        return None
    return Progress(numbers[0], numbers[1] if len(numbers) > 1 else None)
