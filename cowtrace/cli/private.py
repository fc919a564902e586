"""`cowtrace private`: show where the private memory of processes came from."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, TextIO

import click

from cowtrace.analysis.private import Accounts
from cowtrace.cli import launch
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, command_filter, process_options
from cowtrace.cli.chosen import Chosen
from cowtrace.cli.command_user import User, user_option
from cowtrace.cli.live import ENDING, ticks
from cowtrace.cli.options import (
    Form,
    attach_option,
    form_options,
    notice,
    notices_option,
    usage_error,
)
from cowtrace.cli.signals import held
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.memory_objects import accounts as as_object
from cowtrace.model import Snapshot
from cowtrace.tracer import Tracer
from cowtrace.tracer.confinement import Needs, confine
from cowtrace.tracer.filter import Filter

if TYPE_CHECKING:
    from cowtrace.terminal.screen import Screen, View

_HELD = (*ENDING, signal.SIGWINCH)


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="\b\nExamples:\n  sudo cowtrace private -p $(pgrep -o gunicorn) --follow --for 60\n"
    "  sudo cowtrace private -- ./job",
)
@partial(process_options, verb="read")
@user_option
@click.option("--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True,
              metavar="SECONDS", help="Read the processes every SECONDS.")  # fmt: skip
@click.option("--for", "seconds", type=click.FloatRange(min=0.05), metavar="SECONDS",
              help="End after this time; by default at Ctrl-C.")  # fmt: skip
@attach_option
@notices_option
@form_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def private(
    choice: Choice,
    user: User | None,
    interval: float,
    seconds: float | None,
    plan: str,
    verbose: bool,
    form: Form,
    command: tuple[str, ...],
) -> None:
    """Show where private memory came from, and where it went.

    From now until Ctrl-C, until they have ended, or of a COMMAND and its descendants until it has.
    Private is what no other process maps. It grows by copies, and without any: where new memory is
    touched, or where the processes exit that shared it. The rows add up to what smaps shows; what
    they do not explain is a row, too. It is for root; nothing is read of the processes' memory.

    It reads page frame numbers every interval, and less often where that would take more than a
    tenth of the time. What became private and was given back between two readings is in no row. Of
    a process that ended (†), the rows are as it was last read, and that is freed at its end.

    \b
    copied when written       shared pages with another frame now: at most as much
                              as a probe saw copied; without a probe, all of them
    given back, touched       the others: without a copy, for example unmapped and
    again                     mapped anew
    no longer shared by       the same frames: others have exited, unmapped or
    others                    copied them, and nothing happened here
    copies that a probe saw   also those that were given back since

    With a COMMAND, the exit code is the command's, as with `cowtrace run`.
    """
    if command and (choice.names or choice.comm or choice.cgroup or seconds):
        raise usage_error(
            "-p, --comm, --cgroup and --for cannot be combined with COMMAND",
            "leave them out: COMMAND ends by itself",
        )
    if user and not command:
        raise usage_error("--user names the user of COMMAND", "append the command: -- COMMAND")
    program = launch.resolve(command[0], user) if command else ""
    chosen = None if command else Chosen(choice)
    if chosen:
        chosen.some()
    accounts = Accounts()
    only = choice.in_tracer() if chosen else command_filter()
    needs = Needs(frames=True, command=bool(command))
    code = 0
    with ExitStack() as stack:
        live = _attached(plan, verbose, only)
        if live:
            stack.enter_context(live)
        signals = stack.enter_context(held(*(launch.HELD if command else _HELD)))
        out = sys.stderr if command and form == "table" else sys.stdout
        watch = _Watch(accounts, live, form, out)
        watch.read(chosen.now if chosen else dict)
        pid = 0
        if command:
            in_stdout = out is sys.stdout
            pid = launch.start(program, command, signals, stdout_to_stderr=in_stdout, user=user)
            chosen = Chosen(choice, follow=[pid])
        assert chosen
        live.confine(needs) if live else confine(None, needs)
        if command:
            watch.read(chosen.now)  # also one that ends within an interval has an account
            code = launch.follow(pid, signals, interval, lambda: watch.look(chosen), watch)
            watch.read(chosen.now)  # what is left of them, and all that they copied
        else:
            watch.begin(stack)
            wait = min(interval, seconds or interval)
            end = math.inf if seconds is None else time.monotonic() + seconds - wait / 2
            for _ in ticks(signals, wait, None, watch.resized):
                if time.monotonic() >= end or not chosen.now():
                    break
                watch.look(chosen)
                watch.show()
            watch.read(chosen.now)
        watch.end()
    click.get_current_context().exit(code)


def _attached(plan: str, verbose: bool, only: Filter) -> Tracer | None:
    """None: no plan runs here, and none was asked for."""
    try:
        return attach(plan, verbose=verbose, only=only)
    except CowtraceError as error:
        if plan != "auto" or error.exit_code != EXIT_NO_PLAN:
            raise
        notice(f"copies are not traced: {error}")
        return None


class _Watch:
    """Reads the processes, not too often, and shows their accounts."""

    def __init__(self, accounts: Accounts, live: Tracer | None, form: Form, out: TextIO) -> None:
        self._accounts = accounts
        self._live = live
        self._form = form
        self._out = out
        self._lines = CsvLines(out)
        self._screen: Screen | None = None
        self._began = time.monotonic()
        self._snapshot: Snapshot | None = None

    def begin(self, stack: ExitStack) -> None:
        """Show them on a terminal after each reading, until the stack is closed."""
        from cowtrace.terminal.screen import can_redraw, screen

        if self._form == "table" and can_redraw(self._out):
            self._screen = stack.enter_context(screen(self._out))

    def read(self, choose: Callable[[], Iterable[int]]) -> None:
        """Now. A probe is read before a process is, and after: it has seen no less."""
        if self._live and not self._snapshot:
            self._accounts.count(self._live.snapshot())
        self._accounts.read(choose)
        self._count()

    def _count(self) -> None:
        if self._live:
            self._snapshot = self._live.snapshot()
            self._accounts.count(self._snapshot)
            self._live.forget_ended()

    def look(self, chosen: Chosen) -> None:
        """Read them, if it is time."""
        if self._accounts.look(chosen.now):
            self._count()

    def show(self) -> None:
        """On a terminal; as JSON or CSV, a line each time."""
        if self._screen:
            self._screen.show(self._view())
        elif self._form != "table":
            self._write()

    def end(self) -> None:
        """What was read last."""
        if self._screen:
            self._screen.show(self._view())
        elif self._form == "table":
            from cowtrace.terminal.screen import PlainScreen

            PlainScreen(self._out).show(self._view())
        else:
            self._write()

    def resized(self) -> None:
        """The terminal has another size."""
        if self._screen:
            self._screen.resized()

    def release(self) -> None:
        """A command's output is not in the way."""

    def _write(self) -> None:
        found = as_object(self._accounts, self._snapshot, time.monotonic() - self._began)
        if self._form == "csv":
            head = {"now_ns": found["at_ns"], "lost": found["lost"]}
            self._lines.write({**head, **row} for row in found["processes"])
        else:
            self._out.write(json.dumps(found) + "\n")
            self._out.flush()

    def _view(self) -> View:
        from cowtrace.terminal.private import view

        return view(self._accounts, self._snapshot, time.monotonic() - self._began)
