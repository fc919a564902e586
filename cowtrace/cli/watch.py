"""`cowtrace watch`: wait until a fork threatens to need more memory than is left."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import click

from cowtrace import child
from cowtrace.analysis.conditions import NAMES, Condition, parse
from cowtrace.analysis.fits import Outlook
from cowtrace.analysis.forecast import Forecast
from cowtrace.analysis.forks import ForkRow
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, process_options
from cowtrace.cli.forecasts import Forecasts
from cowtrace.cli.forks import ChosenForks
from cowtrace.cli.live import ENDING, ticks
from cowtrace.cli.options import attach_option
from cowtrace.cli.progress import ProgressHook, hook, progress_option
from cowtrace.cli.signals import held
from cowtrace.errors import EXIT_TIMEOUT
from cowtrace.libc import end_with
from cowtrace.machine import forecast_objects
from cowtrace.model import Snapshot
from cowtrace.tracer import Needs
from cowtrace.tracer.filter import Filter

_INTERRUPTED = 130
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
    search = _Search(parse(condition), choice, hook(progress, choice, interval))
    handler = _handler(command) if command else None
    live = attach(plan, details=frozenset({"generation"}), only=Filter(cgroup=choice.cgroup))
    end = math.inf if seconds is None else time.monotonic() + seconds
    code = _INTERRUPTED
    with live, held(*ENDING) as signals:
        live.confine(Needs())
        for _ in ticks(signals, min(interval, seconds or interval), None):
            if found := search.look(live.snapshot()):
                code = _report(json.dumps(found), handler)
                break
            live.fold_ended(_MOST_FORKS)
            if time.monotonic() >= end:
                code = EXIT_TIMEOUT
                break
    click.get_current_context().exit(code)


class _Search:
    """Looks in each snapshot for a fork for which the condition holds."""

    def __init__(self, condition: Condition, choice: Choice, progress: ProgressHook | None) -> None:
        self._condition = condition
        self._forks, self._forecasts = ChosenForks(choice), Forecasts(choice, progress)
        self._before: Snapshot | None = None

    def look(self, now: Snapshot) -> dict[str, Any] | None:
        """The object of the first one; None: there is none."""
        place_of = self._forks.places.of
        chosen, rows = self._forks.look(now, self._before)
        self._before = now
        outlooks = self._forecasts.of(chosen, rows, place_of)
        live = [row for row in rows if row.generation.ended_ns is None]
        made = (outlooks[row.generation.number].forecast for row in live)
        together = [forecast for forecast in made if forecast]
        for row in live:
            values = _values(row, outlooks[row.generation.number], together)
            if self._condition.holds(values):
                (fork,) = forecast_objects.generations([row], outlooks, place_of)["generations"]
                when = self._condition.text
                return {"at_ns": now.at_ns, "when": when, "values": values, "generation": fork}
        return None


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


def _report(line: str, handler: subprocess.Popen[bytes] | None) -> int:
    """Print the line, give it to the command; the command's exit code."""
    print(line, flush=True)
    if not handler:
        return 0
    handler.communicate(line.encode() + b"\n")
    return handler.returncode
