"""`cowtrace run`: a command and all its descendants, from the first instruction to the last."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import ExitStack, nullcontext

import click

from cowtrace.analysis.processes import DEFAULT_ROWS, Frame, rows
from cowtrace.cli import launch
from cowtrace.cli.attach import LATENCY, attach
from cowtrace.cli.choice import command_alone, command_filter
from cowtrace.cli.command_user import User, user_option
from cowtrace.cli.options import Form, attach_option, form_options, latency_option, verbose_option
from cowtrace.cli.signals import held
from cowtrace.files import private_file
from cowtrace.machine import objects
from cowtrace.machine.csv import CsvLines
from cowtrace.model import Snapshot
from cowtrace.proc import Places
from cowtrace.text import COLUMNS, fit, printable
from cowtrace.tracer import Needs


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="\b\nExamples:\n  sudo cowtrace run -- redis-server --save 5 1\n"
    "  sudo cowtrace run --user postgres -- ./job\n"
    "  sudo cowtrace run --json -o copies.json -- ./job | sort",
)
@click.option("-o", "--output", metavar="FILE", help="Write the summary to FILE.")
@user_option
@click.option("-q", "--quiet", is_flag=True, help="Show no live table, only the summary.")
@click.option("--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True,
              metavar="SECONDS", help="Redraw the live table every SECONDS.")  # fmt: skip
@latency_option
@attach_option
@form_options
@verbose_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    output: str | None,
    user: User | None,
    quiet: bool,
    interval: float,
    latency: bool,
    plan: str,
    form: Form,
    verbose: bool,
    command: tuple[str, ...],
) -> None:
    """Run a command; count what it and its descendants copied.

    The command starts when the probes are attached; counting ends when the command ends.

    The command keeps its stdin, stdout and stderr. On a terminal, a live table takes the last
    lines and the command writes above it. The summary goes to stderr, or with -o to FILE.

    With --json or --csv, the summary goes to stdout and the command's stdout to stderr, so that
    stdout holds the summary alone. With -o FILE, the summary goes to FILE and the command keeps
    its stdout.

    The exit code is the command's, 128 + N if signal N ended it; 127 if it was not found, 126 if
    it cannot be executed. SIGTERM, SIGHUP, SIGQUIT and SIGINT are forwarded to the command.
    """
    program = launch.resolve(command[0], user)
    default = sys.stderr if form == "table" else sys.stdout
    places = Places()
    # Opened before the command starts: a bad path must not cost the command's work.
    with private_file(output) if output else nullcontext(default) as out:
        details = LATENCY if latency else frozenset()
        with (
            attach(
                plan,
                verbose=verbose,
                outcomes=verbose,
                page_faults=verbose,
                details=details,
                only=command_filter(),
            ) as counts,
            held(*launch.HELD) as signals,
            ExitStack() as stack,
        ):
            started = time.monotonic()
            pid = launch.start(
                program, command, signals, stdout_to_stderr=out is sys.stdout, user=user
            )
            # Not the command, which runs already.
            counts.confine(Needs(output=output, command=True))
            # Here, since importing rich takes a fifth of a start: the command runs meanwhile.
            from rich.console import Group
            from rich.text import Text

            from cowtrace.terminal.bottom_screen import BottomScreen
            from cowtrace.terminal.processes import render, view
            from cowtrace.terminal.screen import can_redraw, console, show

            screen = stack.enter_context(BottomScreen(sys.stderr))
            live = not quiet and can_redraw(sys.stderr)
            before: Snapshot | None = None

            def look() -> None:
                """Read the cgroups and containers of the processes; redraw."""
                nonlocal before
                whole = counts.snapshot()
                places.look(whole)
                now = command_alone(whole, pid)
                where = places.of_pids(now, (process.pid for process in now.processes))
                if live:
                    found = rows(now, before, limit=DEFAULT_ROWS)
                    total = len(now.processes)
                    screen.show(view(Frame(now, found, total, verbose=verbose, places=where)))
                before = now

            code = launch.follow(pid, signals, interval, look, screen)
            screen.release()
            took = time.monotonic() - started
            last = counts.snapshot()
            places.look(last)
            now = command_alone(last, pid)
        if form == "json":
            objects.write(out, now, None, places.of, latency=latency)
        elif form == "csv":
            CsvLines(out).snapshot(objects.as_object(now, None, places.of), "processes")
        else:
            if out is sys.stderr:
                print(file=out)  # the command may have left its last line unended
            ending = f": exit code {code} after {took:,.1f} s"
            title = fit(printable(shlex.join(command)), COLUMNS - len(ending)) + ending
            found = rows(now, None)
            frame = Frame(
                now, found, len(now.processes), total=len(found) > 1, verbose=verbose,
                latency=latency, places=places.of_pids(now, (row.pid for row in found)),
            )  # fmt: skip
            width = console(out).width if can_redraw(out) else COLUMNS
            show(Group(Text(title, style="bold"), render(frame, width)), out)
    click.get_current_context().exit(code)
