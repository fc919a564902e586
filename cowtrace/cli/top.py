"""`cowtrace top`: show processes, cgroups or mappings of the whole system, live."""

from __future__ import annotations

from typing import Any

import click

from cowtrace.analysis.cgroups import cgroup_rows
from cowtrace.analysis.processes import Frame, rows
from cowtrace.cli import live, maps
from cowtrace.cli.attach import LATENCY, attach
from cowtrace.cli.choice import Choice, filter_options
from cowtrace.cli.live import Refresh
from cowtrace.cli.options import (
    Output,
    latency_option,
    live_options,
    rows_option,
    sort_option,
    usage_error,
    verbose_option,
)
from cowtrace.machine import detail_objects, objects
from cowtrace.model import Snapshot
from cowtrace.proc import Places


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace top --comm 'redis*' 2 5\n"
    "  sudo cowtrace top --by mapping --cgroup system.slice"
)
@filter_options
@click.option("--by", type=click.Choice(("process", "cgroup", "mapping")), default="process",
              show_default=True, help="Show a row per process, cgroup or mapping.")  # fmt: skip
@sort_option("rate")
@rows_option("Show at most N rows; --json has all.")
@latency_option
@live_options
@verbose_option
def top(
    choice: Choice,
    by: str,
    sort: str,
    limit: int,
    latency: bool,
    plan: str,
    output: Output,
    verbose: bool,
) -> None:
    """Show who copies pages now, over the whole system, live.

    Every INTERVAL seconds (1 by default), COUNT times; by default until interrupted, or until
    the processes of -p have ended (without --follow). All columns are sums since the start, /S
    is bytes copied per second in the last interval. COPIED includes pages of private files.
    Processes without any copy-on-write fault are left out unless -p names them. Ctrl-C ends it
    with the last table.

    A footer maps host PIDs to container PIDs and cgroups: PID 4711=1.
    """
    if by != "process":
        if latency:
            raise usage_error("--latency goes with --by process", "run: cowtrace latency")
        watch = maps.watch if by == "mapping" else _watch_cgroups
        watch(choice, plan, output, limit, sort)
        return
    names = choice.pids
    most = max(limit, len(names))
    places = Places()

    def refresh(now: Snapshot, before: Snapshot | None) -> Refresh:
        from cowtrace.terminal.processes import view

        chosen = choice.of(now)
        places.look(now)

        def frame() -> Frame:
            found = rows(chosen, before, sort=sort, always=names, limit=most)
            containers = places.of_pids(chosen, (row.pid for row in found))
            return Frame(
                chosen, found, len(now.processes), most, verbose=verbose, latency=latency,
                places=containers,
            )  # fmt: skip

        def as_object() -> dict[str, Any]:
            timed = objects.latency_of(chosen) if latency else {}
            return objects.as_object(chosen, before, places.of) | timed

        return Refresh(chosen, lambda: view(frame()), as_object)

    details = LATENCY if latency else frozenset()
    fold = choice.is_everything and not latency  # what is summed up has no side of a fork
    traced = attach(
        plan, verbose=verbose, outcomes=verbose, page_faults=verbose, details=details,
        only=choice.in_tracer(), fold=fold,
    )  # fmt: skip
    live.watch(traced, refresh, "processes", output, pids=choice.alone)


def _watch_cgroups(choice: Choice, plan: str, output: Output, limit: int, sort: str) -> None:
    """Attach, then show the cgroups at each interval."""
    places = Places()

    def refresh(now: Snapshot, before: Snapshot | None) -> Refresh:
        from cowtrace.terminal.cgroups import view

        places.look(now)
        chosen = choice.of(now)
        rows = cgroup_rows(chosen, before, lambda p: places.of(p).cgroup, sort=sort)
        return Refresh(
            chosen, lambda: view(chosen, rows, limit), lambda: detail_objects.cgroups(rows)
        )

    traced = attach(plan, only=choice.in_tracer())
    live.watch(traced, refresh, "cgroups", output, pids=choice.alone)
