"""`cowtrace run`: a command and all its descendants, from the first instruction to the last."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TextIO

import click

from cowtrace import tracer
from cowtrace.analysis.processes import DEFAULT_ROWS, Frame, rows
from cowtrace.cli import launch
from cowtrace.cli.attach import LATENCY, attach
from cowtrace.cli.choice import family
from cowtrace.cli.choose_screen import can_redraw
from cowtrace.cli.launch import HELD, follow
from cowtrace.cli.options import (
    attach_option,
    csv_option,
    json_option,
    latency_option,
    verbose_option,
)
from cowtrace.cli.signals import Held, held
from cowtrace.files import private_file
from cowtrace.machine import objects
from cowtrace.machine.csv import CsvLines
from cowtrace.model import Place, Snapshot
from cowtrace.proc import Places
from cowtrace.text import COLUMNS, fit, printable


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="\b\nExamples:\n  sudo cowtrace run -- redis-server --save 5 1\n"
    "  sudo cowtrace run --json -o copies.json -- ./job | sort",
)
@click.option("-o", "--output", metavar="FILE", help="Write the summary to FILE.")
@click.option("-q", "--quiet", is_flag=True, help="Show no live table, only the summary.")
@click.option("--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True,
              metavar="SECONDS", help="Seconds between two live tables.")  # fmt: skip
@latency_option
@attach_option
@json_option
@csv_option
@verbose_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(
    ctx: click.Context,
    output: str | None,
    quiet: bool,
    interval: float,
    latency: bool,
    plan: str,
    as_json: bool,
    as_csv: bool,
    verbose: bool,
    command: tuple[str, ...],
) -> None:
    """Run a command; count what it and its descendants copied.

    The command starts when the probes are attached, and the count ends when it ends.

    Its stdin, stdout and stderr stay its own. On a terminal, a live table takes the last lines
    and the command writes above it. The summary goes to stderr, or with -o to FILE.

    With --json, or --csv, the summary is on stdout, and what the command writes to stdout goes
    to stderr, so that it stands alone; with -o FILE it goes there and stdout stays.

    The exit code is the command's, 128 + N if signal N ended it; 127 if it was not found, 126
    if it cannot be executed. SIGTERM, SIGHUP, SIGQUIT and SIGINT sent to cowtrace are passed on.
    """
    program = launch.resolve(command[0])
    live = not quiet and can_redraw(sys.stderr)
    machine = as_json or as_csv
    with _summary_stream(output, machine) as out:
        with ExitStack() as stack:
            counts = stack.enter_context(
                attach(
                    plan,
                    verbose=verbose,
                    page_faults=verbose,
                    details=LATENCY if latency else frozenset(),
                )
            )
            signals = stack.enter_context(held(*HELD))
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # SIG_IGN would reap the command
            started = time.monotonic()
            own_stdout = bool(output) or not machine
            pid = launch.start(program, command, signals, stdout_to_stderr=not own_stdout)
            places = Places()
            code = _follow(counts, pid, signals, interval, places, live=live, verbose=verbose)
            took = time.monotonic() - started
            last = counts.snapshot()
            places.look(last)
            now = family(last, pid)
        if as_json:
            objects.write(out, now, None, places.of, latency=latency)
        elif as_csv:
            CsvLines(out).snapshot(objects.as_object(now, None, places.of), "processes")
        else:
            ending = f": exit code {code} after {took:,.1f} s"
            what = fit(printable(shlex.join(command)), COLUMNS - len(ending))
            where = places.of_pids(now, (process.pid for process in now.processes))
            _summary(out, what + ending, now, where, verbose=verbose, latency=latency)
    ctx.exit(code)


def _follow(
    counts: tracer.Tracer,
    pid: int,
    signals: Held,
    interval: float,
    places: Places,
    *,
    live: bool,
    verbose: bool,
) -> int:
    """Wait for the command and return its exit code. At each interval look up the cgroups and
    containers of its processes and, if `live`, redraw."""
    from cowtrace.terminal import processes as table
    from cowtrace.terminal.bottom_screen import BottomScreen

    before: Snapshot | None = None
    with BottomScreen(sys.stderr) as screen:

        def look() -> None:
            nonlocal before
            whole = counts.snapshot()
            places.look(whole)
            now = family(whole, pid)
            where = places.of_pids(now, (process.pid for process in now.processes))
            if live:
                found = rows(now, before, limit=DEFAULT_ROWS)
                total = len(now.processes)
                screen.show(table.view(Frame(now, found, total, verbose=verbose, places=where)))
            before = now

        return follow(pid, signals, interval, look, screen)


def _summary(
    out: TextIO,
    title: str,
    now: Snapshot,
    places: Mapping[int, Place],
    *,
    verbose: bool,
    latency: bool,
) -> None:
    from rich.text import Text

    from cowtrace.terminal import plain
    from cowtrace.terminal import processes as table
    from cowtrace.terminal import screen as live

    if out is sys.stderr:
        print(file=out)  # the command may have left its last line unended
    found = rows(now, None)
    frame = Frame(
        now, found, len(now.processes), total=len(found) > 1, verbose=verbose, latency=latency,
        places=places,
    )  # fmt: skip
    if can_redraw(out):
        console = live.console(out)
        console.print(Text(title, style="bold"))
        console.print(table.render(frame, console.width))
    else:
        console = plain.console(out)
        plain.write(console, Text(title))
        plain.write(console, table.render(frame))


def _summary_stream(output: str | None, machine: bool) -> AbstractContextManager[TextIO]:
    """Open it before the command starts: a bad path must not cost the command's work."""
    if output is None:
        return nullcontext(sys.stdout if machine else sys.stderr)
    return private_file(output)
