"""`cowtrace top`: the whole system, one table per interval."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase

import click

from cowtrace.cli import procfs
from cowtrace.cli.attach import attach
from cowtrace.cli.options import attach_option, json_option, verbose_option
from cowtrace.cli.screens import Screen, screen
from cowtrace.cli.signals import Held, held
from cowtrace.exporters import jsonlines
from cowtrace.model import Process, Snapshot
from cowtrace.views.rows import DEFAULT_ROWS, SORT_KEYS, Frame, rows

ENDING = (signal.SIGINT, signal.SIGTERM)


@click.command(epilog="\b\nExample:\n  sudo cowtrace top --comm 'redis*' 2 5")
@click.option("-p", "--pid", "pids", type=click.IntRange(min=1), multiple=True,
              help="Only this process; may be given again.")  # fmt: skip
@click.option("--comm", "glob", metavar="GLOB", help="Only processes of such a name: 'redis*'.")
@click.option("--sort", type=click.Choice(SORT_KEYS, case_sensitive=False), default="rate",
              show_default=True, help="Column to sort by; rate is /S.")  # fmt: skip
@click.option("--rows", "limit", type=click.IntRange(min=1), default=DEFAULT_ROWS,
              show_default=True, help="Rows shown at most; --json has them all.")  # fmt: skip
@attach_option
@json_option
@verbose_option
@click.argument("interval", type=click.FloatRange(min=0.05), default=1.0)
@click.argument("count", type=click.IntRange(min=1), required=False)
def top(
    pids: tuple[int, ...],
    glob: str | None,
    sort: str,
    limit: int,
    plan: str,
    as_json: bool,
    verbose: bool,
    interval: float,
    count: int | None,
) -> None:
    """Show who copies pages now, over the whole system, live.

    Every INTERVAL seconds (1 by default), COUNT times (until interrupted by default). All
    columns are sums since the start, /S is bytes copied per second in the last interval.
    COPIED holds pages of private files too. Processes without any copy-on-write fault are left
    out unless -p names them. Ctrl-C ends it with the last table.
    """
    names = {pid: procfs.comm(pid) for pid in pids}
    with ExitStack() as stack:
        live = stack.enter_context(attach(plan, verbose=verbose, page_faults=verbose))
        signals = stack.enter_context(held(*ENDING, signal.SIGWINCH))
        show = None if as_json else stack.enter_context(screen())
        earlier: Snapshot | None = None
        before: Snapshot | None = None
        for _ in ticks(signals, interval, count, show):
            now = live.snapshot()
            kept = now.only(_with_named(_chosen(now, names, glob), names, now))
            # a signal may end the last interval too early for a rate: then it is that of two
            if before and now.at_ns - before.at_ns < interval * 0.5e9:
                before = earlier
            if show:
                most = max(limit, len(names))
                found = rows(kept, before, sort=sort, always=names, limit=most)
                show.show(Frame(kept, found, len(now.processes), most, verbose=verbose))
            else:
                jsonlines.write(sys.stdout, kept, before)
            earlier, before = before, kept


def ticks(signals: Held, interval: float, count: int | None, show: Screen | None) -> Iterator[None]:
    """One item at the end of each interval, and a last one when a signal ends it early."""
    deadline = time.monotonic() + interval
    done = 0
    while count is None or done < count:
        info = signals.wait(deadline)
        if info and info.si_signo == signal.SIGWINCH:
            if show:
                show.resized()
            continue
        yield
        if info:
            return
        done += 1
        # a refresh that took longer than the interval must not be followed by a burst
        deadline = max(deadline + interval, time.monotonic())


def _chosen(now: Snapshot, names: dict[int, str], glob: str | None) -> list[Process]:
    return [
        process
        for process in now.processes
        if (not names or process.pid in names) and (not glob or fnmatchcase(process.comm, glob))
    ]


def _with_named(found: list[Process], names: dict[int, str], now: Snapshot) -> list[Process]:
    """Also the processes that -p names and that had no fault so far."""
    quiet = names.keys() - {process.pid for process in now.processes}
    return found + [
        Process(pid, names[pid], None, not procfs.exists(pid), None, (), now.unseen)
        for pid in sorted(quiet)
    ]
