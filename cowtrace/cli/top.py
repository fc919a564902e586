"""`cowtrace top`: the whole system, one table per interval."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import click

from cowtrace.cli.attach import LATENCY, attach
from cowtrace.cli.choice import Choice
from cowtrace.cli.options import (
    attach_option,
    csv_option,
    filter_options,
    interval_arguments,
    json_option,
    latency_option,
    verbose_option,
)
from cowtrace.cli.screens import screen
from cowtrace.cli.watching import ending_held, snapshots
from cowtrace.exporters import jsonlines
from cowtrace.exporters.csvlines import CsvLines
from cowtrace.views.rows import DEFAULT_ROWS, SORT_KEYS, Frame, rows


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace top --comm 'redis*' 2 5\n"
    "  sudo cowtrace top --by mapping --cgroup system.slice"
)
@filter_options
@click.option("--by", type=click.Choice(("process", "mapping")), default="process",
              show_default=True, help="What a row is; mapping: as cowtrace maps.")  # fmt: skip
@click.option("--sort", type=click.Choice(SORT_KEYS, case_sensitive=False), default="rate",
              show_default=True, help="Column to sort by; rate is /S.")  # fmt: skip
@click.option("--rows", "limit", type=click.IntRange(min=1), default=DEFAULT_ROWS,
              show_default=True, help="Rows shown at most; --json has them all.")  # fmt: skip
@latency_option
@attach_option
@json_option
@csv_option
@verbose_option
@interval_arguments
def top(
    choice: Choice,
    by: str,
    sort: str,
    limit: int,
    latency: bool,
    plan: str,
    as_json: bool,
    as_csv: bool,
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
    if by == "mapping":
        if latency:
            raise click.UsageError("--latency goes with --by process; or run: cowtrace latency")
        from cowtrace.cli.maps import watch

        watch(
            choice, interval, count, plan=plan, as_json=as_json, as_csv=as_csv,
            limit=limit, sort=sort,
        )  # fmt: skip
        return
    names = choice.pids
    with ExitStack() as stack:
        live = stack.enter_context(
            attach(
                plan,
                verbose=verbose,
                page_faults=verbose,
                details=LATENCY if latency else frozenset(),
                only=choice.in_kernel(),
            )
        )
        signals = ending_held(stack)
        lines = CsvLines(sys.stdout)
        show = None if as_json or as_csv else stack.enter_context(screen())
        for now, before in snapshots(live, signals, interval, count, show):
            kept = choice.of(now)
            if show:
                most = max(limit, len(names))
                found = rows(kept, before, sort=sort, always=names, limit=most)
                show.show(
                    Frame(kept, found, len(now.processes), most, verbose=verbose, latency=latency)
                )
            elif as_csv:
                lines.snapshot(jsonlines.as_object(kept, before), "processes")
            else:
                jsonlines.write(sys.stdout, kept, before, latency=latency)
