"""`cowtrace record`: write a trace to a file that can be read, drawn and compared later."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from cowtrace import __version__, proc
from cowtrace.analysis.private import Accounts
from cowtrace.analysis.questions.private_memory import DETAIL as PRIVATE
from cowtrace.analysis.questions.written import DETAIL as OBJECTS
from cowtrace.cli import launch
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, command_alone, command_filter, process_options
from cowtrace.cli.chosen import Chosen
from cowtrace.cli.command_user import User, user_option
from cowtrace.cli.live import ENDING, ticks
from cowtrace.cli.options import attach_option, notice, notices_option, usage_error
from cowtrace.cli.recorder import Recorder
from cowtrace.cli.signals import held
from cowtrace.errors import EXIT_NO_ROOM
from cowtrace.kernel.options import Detail
from cowtrace.model import Snapshot
from cowtrace.recording import Header
from cowtrace.recording.writer import Writer
from cowtrace.text import printable
from cowtrace.tracer import Needs
from cowtrace.tracer.filter import Filter


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="\b\nExamples:\n  sudo cowtrace record -o before.cow -- ./job\n"
    "  sudo cowtrace record -o redis.cow -p $(pidof redis-server) --for 60",
)
@click.option("-o", "--output", required=True, metavar="FILE", help="Write the recording to FILE.")
@user_option
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True,
              metavar="SECONDS", help="Write to FILE every SECONDS.")  # fmt: skip
@click.option("--for", "seconds", type=click.FloatRange(min=0.05), metavar="SECONDS",
              help="Record for this time; by default until Ctrl-C.")  # fmt: skip
@click.option("--no-stacks", is_flag=True, help="Do not record stacks.")
@click.option("--no-mappings", is_flag=True, help="Do not record mappings.")
@click.option("--no-latency", is_flag=True, help="Do not record the time in faults.")
@click.option(
    "--private",
    is_flag=True,
    help="Also record where private memory came from: see cowtrace private.",
)
@click.option("--objects", is_flag=True,
              help="Also record what was written in CPython: see cowtrace objects.")  # fmt: skip
@click.option("--no-hint", is_flag=True, hidden=True)  # for `cowtrace try`, which removes FILE
@process_options
@attach_option
@notices_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def record(
    output: str,
    user: User | None,
    force: bool,
    interval: float,
    seconds: float | None,
    no_stacks: bool,
    no_mappings: bool,
    no_latency: bool,
    private: bool,
    objects: bool,
    no_hint: bool,
    choice: Choice,
    plan: str,
    verbose: bool,
    command: tuple[str, ...],
) -> None:
    """Record a trace in a file, to report on it and to compare it later.

    With a COMMAND, records it and its descendants. With -p, records these processes and their
    descendants until all have ended. Otherwise records the whole system until Ctrl-C.

    FILE is an SQLite database: `cowtrace report FILE` reads it, `cowtrace diff` compares two.
    Each interval is written whole, so a recording is usable even if cowtrace is killed. Details
    that the plan does not support on this kernel are missing: see `cowtrace doctor`.

    With a COMMAND, the exit code is the command's, as with `cowtrace run`. If the disk is full,
    what was recorded until then is kept, the command goes on, and the exit code is 6.
    """
    if command and (choice.names or seconds):
        raise usage_error(
            "-p and --for cannot be combined with COMMAND", "leave them out: COMMAND ends by itself"
        )
    if user and not command:
        raise usage_error("--user names the user of COMMAND", "append the command: -- COMMAND")
    if private and choice.is_everything and not (choice.cgroup or command):
        raise usage_error(
            "--private reads processes that are chosen", "choose some: -p PID, --comm, --cgroup"
        )
    program = launch.resolve(command[0], user) if command else ""
    accounts = Accounts() if private else None
    details: set[Detail] = {"generation"}
    if not no_mappings:
        details.add("mapping")
    if not no_latency:
        details.add("latency")
    wanted = {"samples": not no_stacks, PRIVATE: private, OBJECTS: objects}
    beside = {name for name, is_asked in wanted.items() if is_asked}
    tracing = attach(
        plan, verbose=verbose, details=frozenset(details), optional=True, samples=not no_stacks,
        objects=objects, only=_only(choice, bool(command)),
        fold=choice.is_everything and not command,
    )  # fmt: skip
    with tracing as live, held(*(launch.HELD if command else ENDING)) as signals:
        began = live.snapshot()
        header = Header(
            version=__version__,
            kernel=began.kernel,
            plan=began.plan,
            page_bytes=began.page_bytes,
            attached_ns=began.attached_ns,
            started_unix_ns=time.time_ns() - (time.monotonic_ns() - began.attached_ns),
            interval_ns=round(interval * 1e9),
            command=shlex.join(command) if command else None,
            unseen=began.unseen,
            details=live.probe_plan.details | beside,
            asked=frozenset(details | beside),
        )
        # Redrawing a line would overwrite what the command writes to stderr.
        recorder = Recorder(
            Writer(Path(output), header, force=force),
            live=not command,
            chosen=bool(command or choice.pids),
        )
        code = 0
        needs = Needs(output=output, command=bool(command), frames=private)
        chosen: Chosen | None = None

        def taken(take: Callable[[], Snapshot], *, last: bool = False) -> Snapshot:
            if not accounts or not chosen:
                return take()
            return accounts.snapshot(chosen.now, take, last=last)

        if accounts:
            accounts.count(began)
        if command:
            if accounts:
                accounts.read(tuple)  # there is none yet
            started_ns = time.monotonic_ns()
            pid = launch.start(program, command, signals, stdout_to_stderr=False, user=user)
            recorder.ran(started_ns)
            live.confine(needs)
            ended = launch.End(pid)  # not before: privileges are dropped while there is one thread
            if accounts:
                chosen = Chosen(choice, follow=[pid])
                accounts.read(chosen.now)  # also one that ends within an interval has an account

            def look(*, last: bool = False) -> None:
                if not recorder.full:
                    recorder.add(taken(lambda: command_alone(live.snapshot(), pid), last=last))

            with recorder:
                code = launch.follow(pid, signals, interval, look, recorder)
                recorder.ran(started_ns, ended.at_ns())
                look(last=True)
        else:
            if accounts:
                chosen = Chosen(replace(choice, follow=bool(choice.pids)))
            live.confine(needs)
            if accounts and chosen:
                accounts.read(chosen.now)
            count = None if seconds is None else max(1, round(seconds / interval))
            end = math.inf if seconds is None else time.monotonic() + seconds
            with recorder:
                for _ in ticks(signals, interval, count):
                    at = time.monotonic()
                    gone = bool(choice.pids) and not any(map(proc.runs, choice.pids))
                    last = gone or at >= end
                    recorder.add(taken(lambda: choice.with_descendants(live.snapshot()), last=last))
                    if choice.is_everything:  # else ended ancestors tell who belongs to -p
                        live.forget_ended()
                    # Not by count alone: on a busy system an interval takes longer. The snapshot's
                    # time decides: where writing one lasts beyond the end, another follows.
                    if recorder.full or last:
                        break
        if recorder.full:
            click.get_current_context().exit(EXIT_NO_ROOM)
        notice(f"recorded {recorder.sums()}")
        if not no_hint:
            click.echo(f"Read it: cowtrace report {printable(output)}", err=True)
    click.get_current_context().exit(code)


def _only(choice: Choice, command: bool) -> Filter:
    """Always record descendants with their ancestors: a copy involves both."""
    if command:
        return command_filter(choice.cgroup)
    return replace(choice.in_tracer(), follow=bool(choice.pids))
