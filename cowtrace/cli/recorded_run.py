"""Run a command once under `cowtrace record`, in a process of its own; return its recording."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cowtrace import child
from cowtrace.analysis.trials import Peak
from cowtrace.cli import launch
from cowtrace.cli.peak import SECONDS, Sampler
from cowtrace.cli.signals import Held, from_process
from cowtrace.errors import CowtraceError
from cowtrace.recording import Recording
from cowtrace.recording.reader import read
from cowtrace.text import printable

ENDING = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP}
_LAST = 5  # lines of stderr, in an error
_LAST_BYTES = 4096


class Interrupted(Exception):
    """A signal ended the run; `signal` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


@dataclass(frozen=True, slots=True)
class Settings:
    """What all runs have in common."""

    plan: str
    user: str | None  # that commands are started as, by name
    show_output: bool
    ignore_failure: bool


def record_run(
    name: str, command: Sequence[str], file: Path, variables: Mapping[str, str],
    settings: Settings, held: Held,
) -> tuple[Recording, Peak]:  # fmt: skip
    """Record one run into `file`. Raises Interrupted; CowtraceError if it failed."""
    as_user = ("--user", settings.user) if settings.user else ()
    arguments = child.command(
        "cowtrace", "record", "-o", str(file), "--no-stacks", "--no-mappings", "--no-hint",
        "--attach", settings.plan, *as_user, "--", *command,
    )  # fmt: skip
    said = file.with_suffix(".stderr")
    out, writing = os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_EXCL
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    ]
    if settings.show_output:
        actions.append((os.POSIX_SPAWN_DUP2, 2, 1))  # stdout is for the table
    else:
        actions.append((os.POSIX_SPAWN_OPEN, 1, os.devnull, out, 0))
        actions.append((os.POSIX_SPAWN_OPEN, 2, str(said), writing, 0o600))
    pid = os.posix_spawn(
        arguments[0], arguments, launch.given() | dict(variables),
        file_actions=actions, setsigmask=held.mask_before,
    )  # fmt: skip
    sampler = Sampler(pid)
    code, ended_by = _wait(pid, held, sampler)
    try:
        text = _end_of(said)
    finally:
        said.unlink(missing_ok=True)
    if ended_by:
        raise Interrupted(ended_by)
    return _recording(name, file, code, text, settings), sampler.peak


def _wait(pid: int, held: Held, sampler: Sampler) -> tuple[int, int]:
    """The exit code of the recorder, and the signal that was to end this process, or 0."""
    held.command = pid
    ended_by = 0
    while (code := launch.ended(pid)) is None:
        info = held.wait(time.monotonic() + SECONDS)
        if info and info.si_signo in ENDING:
            ended_by = info.si_signo
            if from_process(info):  # a signal of the terminal reaches the recorder as well
                os.kill(pid, info.si_signo)
        elif not info:
            sampler.look()
    held.command = None
    return code, ended_by


def _recording(name: str, file: Path, code: int, text: str, settings: Settings) -> Recording:
    """Raises CowtraceError: the recorder failed, or the command did."""
    try:
        recording = read(file)
    except CowtraceError:
        if settings.show_output:
            text = "see above"
        message, _, hint = text.rpartition("cowtrace: ")[2].partition("\nHint: ")
        raise CowtraceError(
            f"cannot record {name}: {message or f'exit code {code}'}",
            hint=hint or "try it alone: cowtrace record -o FILE -- COMMAND",
            exit_code=code or 1,
        ) from None
    if recording.ended:
        raise CowtraceError(
            f"the recording of {name} ended early: {printable(recording.ended)}",
            hint="free some room, or choose another disk by TMPDIR or --save",
        )
    if code and not settings.ignore_failure:
        shown = "".join(f"\n  {line}" for line in text.splitlines() if line)
        raise CowtraceError(
            f"{name} failed with exit code {code}{shown}",
            hint="to count such runs as well: --ignore-failure",
        )
    return recording


def _end_of(file: Path) -> str:
    """The last lines of stderr, safe to print, without what cowtrace itself reports."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    own = [printable(line) for line in lines if not line.startswith("cowtrace: recorded ")]
    return "\n".join(own[-_LAST:])
