"""`cowtrace watch`: wait until a fork threatens to need more memory than is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import click

from cowtrace import child
from cowtrace.analysis.conditions import NAMES, parse
from cowtrace.analysis.fits import Outlook
from cowtrace.analysis.forecast import Forecast
from cowtrace.analysis.forks import WINDOW, ForkRow, fork_rows
from cowtrace.cli import cgroups
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, process_options
from cowtrace.cli.forecasts import Forecasts
from cowtrace.cli.forks import of_forks
from cowtrace.cli.live import ENDING, ticks
from cowtrace.cli.options import attach_option
from cowtrace.cli.progress import hook, progress_option
from cowtrace.cli.signals import held
from cowtrace.errors import EXIT_TIMEOUT
from cowtrace.libc import end_with
from cowtrace.machine import forecast_objects
from cowtrace.model import Snapshot
from cowtrace.proc import Places
from cowtrace.tracer import Needs
from cowtrace.tracer.filter import Filter

_MOST_FORKS = 2048  # that have ended, and are kept
# Waits for a line, and hands it on: a tracer that has given up its privileges executes nothing.
_HANDLER = 'IFS= read -r found && printf "%s\\n" "$found" | sh -c "$1"'


@click.command(
    epilog="\b\nExamples:\n"
    "  sudo cowtrace watch --when 'forecast > available' -p $(pidof redis-server)\n"
    "  sudo cowtrace watch --when 'high > 80% available and copied > 1GiB' \\\n"
    "    --run 'jq .values | mail -s memory root'"
)
@click.option("--when", "condition", required=True, metavar="CONDITION",
              help="Wait until this holds for a fork whose child lives.")  # fmt: skip
@click.option("--run", "command", metavar="COMMAND",
              help="Then run COMMAND in a shell, with that line on its stdin.")  # fmt: skip
@click.option("--for", "seconds", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Give up after SECONDS, with exit code 124.")  # fmt: skip
@progress_option
@process_options
@attach_option
@click.argument("interval", type=click.FloatRange(min=0.05), default=1.0)
def watch(
    condition: str,
    command: str | None,
    seconds: float | None,
    progress: str | None,
    choice: Choice,
    plan: str,
    interval: float,
) -> None:
    """Wait until a fork threatens to need more memory than is left.

    Looks every INTERVAL seconds (1 by default). When CONDITION holds for a fork, its line of JSON
    is printed, and cowtrace exits with 0: `cowtrace watch --when ... && ...` acts on it.

    CONDITION compares two of these with <, >, <= or >=; comparisons are joined by `and`. Each is a
    size (512MiB, 2G), a value of the fork in bytes, or a part of one (80% available):

    \b
    forecast   still to come, expected; see cowtrace forks --forecast
    high       still to come, in 9 of 10 cases at most
    forecasts  forecast of all chosen live forks together; highs: high of these
    worst      still to come at most: shared, and not copied yet
    total      copied when the child ends, expected
    copied     so far
    shared     at the fork
    available  memory left of the machine and of the cgroup, without swap
    limit      the same with swap and above memory.high: with more, the kernel
               kills

    A comparison with a value that is not known yet does not hold.
    """
    wanted = parse(condition)
    hooked = hook(progress, choice, interval)
    handler = _handler(command) if command else None
    forecasts, places = Forecasts(choice, hooked), Places()
    history: deque[Snapshot] = deque(maxlen=WINDOW + 1)
    members: set[int] = set()
    live = attach(plan, details=frozenset({"generation"}), only=Filter(cgroup=choice.cgroup))
    code = EXIT_TIMEOUT
    end = None if seconds is None else time.monotonic() + seconds
    with live, held(*ENDING) as signals:
        live.confine(Needs())
        before: Snapshot | None = None
        for _ in ticks(signals, min(interval, seconds or interval), None):
            now = live.snapshot()
            if choice.cgroup:
                members |= cgroups.processes(choice.cgroup)
            chosen = of_forks(now, choice, members)
            history.append(chosen)
            places.look(now)
            rows = fork_rows(history, before)
            outlooks = forecasts.of(chosen, rows, places.of)
            before = now
            together = _together(rows, outlooks)
            for row in rows:
                values = _values(row, outlooks[row.generation.number], together)
                if row.generation.ended_ns is None and wanted.holds(values):
                    (found,) = forecast_objects.generations([row], outlooks, places.of)[
                        "generations"
                    ]
                    line = {"at_ns": now.at_ns, "when": condition, "values": values}
                    _report(json.dumps(line | {"generation": found}), handler)
                    code = handler.wait() if handler else 0
                    break
            else:
                live.fold_ended(_MOST_FORKS)
                if end is not None and time.monotonic() >= end:
                    break
                continue
            break
        else:
            code = 130  # interrupted
    click.get_current_context().exit(code)


def _together(rows: Iterable[ForkRow], outlooks: Mapping[int, Outlook]) -> list[Forecast]:
    """Of all live forks."""
    live = (outlooks[row.generation.number] for row in rows if row.generation.ended_ns is None)
    return [outlook.forecast for outlook in live if outlook.forecast]


def _values(row: ForkRow, outlook: Outlook, together: Sequence[Forecast]) -> dict[str, int | None]:
    """By the names of a condition."""
    fork, forecast, left = row.generation, outlook.forecast, outlook.left
    values = {
        "forecast": forecast.to_come_bytes if forecast else None,
        "high": forecast.most_to_come_bytes if forecast else None,
        "forecasts": sum(one.to_come_bytes for one in together) if together else None,
        "highs": sum(one.most_to_come_bytes for one in together) if together else None,
        "worst": fork.worst_case_bytes,
        "total": forecast.expected_bytes if forecast else None,
        "copied": fork.copied_bytes,
        "shared": fork.shareable_bytes,
        "available": left.available_bytes,
        "limit": left.most_bytes,
    }
    assert values.keys() == NAMES.keys()
    return values


def _handler(command: str) -> subprocess.Popen[bytes]:
    """Runs the command when it gets a line; ends when this process does."""
    parent = os.getpid()
    return subprocess.Popen(
        ["/bin/sh", "-c", _HANDLER, "sh", command],
        env=child.environment(),
        stdin=subprocess.PIPE,
        preexec_fn=lambda: end_with(parent),
    )


def _report(line: str, handler: subprocess.Popen[bytes] | None) -> None:
    print(line, flush=True)
    if handler and handler.stdin:
        handler.stdin.write(line.encode() + b"\n")
        handler.stdin.close()
    sys.stdout.flush()
