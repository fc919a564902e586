"""`cowtrace shared`: show who shares how much memory with whom, now."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import click

from cowtrace import proc
from cowtrace.analysis.shared import read
from cowtrace.cli import cgroups
from cowtrace.cli.choice import Choice, process_options
from cowtrace.cli.live import ENDING, ticks
from cowtrace.cli.options import Form, form_options, usage_error
from cowtrace.cli.signals import held
from cowtrace.errors import CowtraceError
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.detail_objects import sharing
from cowtrace.sandbox import keep_capabilities

if TYPE_CHECKING:
    from cowtrace.terminal.screen import Screen

_MOST = 128  # processes
# For frame numbers; for other users' processes. The rest is given up.
_NEEDED = ("CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace shared -p $(pgrep -o gunicorn) --follow\n"
    "  sudo cowtrace shared --cgroup system.slice/app.service 1"
)
@partial(process_options, verb="read")
@form_options
@click.argument("interval", type=click.FloatRange(min=0.05), required=False)
@click.argument("count", type=click.IntRange(min=1), required=False)
def shared(
    choice: Choice,
    form: Form,
    interval: float | None,
    count: int | None,
) -> None:
    """Show who shares how much memory with whom, now.

    Once; with INTERVAL, every INTERVAL seconds, COUNT times (until they have ended by default).
    It reads page frame numbers in /proc and needs no probe; it is for root. Nothing is read of
    the processes' memory.

    \b
    FREED    anonymous memory that no other process of the system maps: freed
    BY EXIT  when the process exits, unless the kernel or a device still uses it
    IN       anonymous memory that at least one other of these processes maps
    COMMON
    WITH     anonymous memory that processes map that are none of these
    OTHERS
    FILES    pages of files and of shared memory: not counted in FREED
    SWAPPED  anonymous memory in swap, which processes can share as well

    The second table has the anonymous memory that each two of them map.
    """
    if choice.is_everything and not choice.cgroup:
        raise usage_error("no process is chosen", "choose some: -p PID --follow, --comm, --cgroup")
    keep_capabilities(_NEEDED)
    roots = set(choice.pids)
    with ExitStack() as stack:
        looks: Iterable[None] = [None]
        drawn: Screen | None = None
        if form == "table":
            from cowtrace.terminal.screen import screen
            from cowtrace.terminal.shared import view

            drawn = stack.enter_context(screen(sys.stdout))
        if interval is not None:
            signals = stack.enter_context(held(*ENDING, signal.SIGWINCH))
            resized = drawn.resized if drawn else None
            looks = chain(looks, ticks(signals, interval, count and count - 1, resized))
        lines = CsvLines(sys.stdout)
        for at, _ in enumerate(looks):
            if choice.follow:
                roots |= proc.descendants(roots)  # also of those that have ended since
            names = _chosen(choice, roots)
            if not names and at:
                break
            now = read(_few(names))
            if drawn:
                drawn.show(view(now, names))
                continue
            found = sharing(now, names)
            if form == "csv":
                lines.write({"now_ns": now.at_ns, **row} for row in found["processes"])
            else:
                print(json.dumps(found), flush=True)


def _chosen(choice: Choice, pids: set[int]) -> dict[int, str]:
    """Those of these PIDs that meet all conditions and have memory, and their names. None: all."""
    chosen = pids or proc.pids()
    if choice.cgroup:
        chosen = chosen & cgroups.processes(choice.cgroup)
    names = {pid: proc.name(pid) for pid in sorted(chosen) if proc.has_memory(pid)}
    return {pid: name for pid, name in names.items() if name is not None and choice.is_called(name)}


def _few(names: dict[int, str]) -> list[int]:
    if not names:
        raise CowtraceError(
            "none of the chosen processes exists and has memory",
            hint="list the processes: ps -e -o pid,rss,comm",
        )
    if len(names) > _MOST:
        raise CowtraceError(
            f"{len(names):,} processes are chosen, {_MOST} at most can be compared",
            hint="choose fewer: -p PID, --comm GLOB",
        )
    return [*names]
