"""`cowtrace top`: show processes, cgroups or mappings of the whole system, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cowtrace.analysis.cgroups import cgroup_rows
from cowtrace.analysis.processes import DEFAULT_ROWS, SORT_KEYS, Frame, rows
from cowtrace.cli import maps
from cowtrace.cli.attach import LATENCY, attach
from cowtrace.cli.choice import Choice
from cowtrace.cli.live import Refresh
from cowtrace.cli.live import watch as watch_live
from cowtrace.cli.options import (
    attach_option,
    csv_option,
    filter_options,
    interval_arguments,
    json_option,
    latency_option,
    verbose_option,
)
from cowtrace.machine import detail_objects, objects
from cowtrace.model import Snapshot
from cowtrace.proc import Places

if TYPE_CHECKING:
    from cowtrace.terminal.screen import View


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace top --comm 'redis*' 2 5\n"
    "  sudo cowtrace top --by mapping --cgroup system.slice"
)
@filter_options
@click.option("--by", type=click.Choice(("process", "cgroup", "mapping")), default="process",
              show_default=True, help="Show a row per process, cgroup or mapping.")  # fmt: skip
@click.option("--sort", type=click.Choice(SORT_KEYS, case_sensitive=False), default="rate",
              show_default=True, help="Sort by this column; rate is /S.")  # fmt: skip
@click.option("--rows", "limit", type=click.IntRange(min=1), default=DEFAULT_ROWS,
              show_default=True, metavar="N",
              help="Show at most N rows; --json has all.")  # fmt: skip
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

    A footer maps host PIDs to container PIDs and cgroups: PID 4711=1.
    """
    if by != "process":
        if latency:
            raise click.UsageError("--latency goes with --by process; or run: cowtrace latency")
        watch = maps.watch if by == "mapping" else _watch_cgroups
        watch(
            choice, interval, count, plan=plan, as_json=as_json, as_csv=as_csv,
            limit=limit, sort=sort,
        )  # fmt: skip
        return
    names = choice.pids
    places = Places()

    def refresh(now: Snapshot, before: Snapshot | None) -> Refresh:
        kept = choice.of(now)
        places.look(now)

        def drawn() -> View:
            from cowtrace.terminal.processes import view

            most = max(limit, len(names))
            found = rows(kept, before, sort=sort, always=names, limit=most)
            containers = places.of_pids(kept, (row.pid for row in found))
            return view(
                Frame(kept, found, len(now.processes), most, verbose=verbose,
                      latency=latency, places=containers)
            )  # fmt: skip

        def as_object() -> dict[str, Any]:
            timed = objects.latency_of(kept) if latency and as_json else {}
            return objects.as_object(kept, before, places.of) | timed

        return Refresh(kept, drawn, as_object)

    live = attach(
        plan,
        verbose=verbose,
        page_faults=verbose,
        details=LATENCY if latency else frozenset(),
        only=choice.in_kernel(),
    )
    watch_live(
        live, refresh, rows="processes",
        interval=interval, count=count, as_json=as_json, as_csv=as_csv,
    )  # fmt: skip


def _watch_cgroups(
    choice: Choice,
    interval: float,
    count: int | None,
    *,
    plan: str,
    as_json: bool,
    as_csv: bool,
    limit: int,
    sort: str,
) -> None:
    """Attach, then show the cgroups at each interval."""
    places = Places()

    def refresh(now: Snapshot, before: Snapshot | None) -> Refresh:
        places.look(now)
        kept = choice.of(now)
        rows = cgroup_rows(kept, before, lambda p: places.of(p).cgroup, sort=sort)

        def drawn() -> View:
            from cowtrace.terminal.cgroups import view

            return view(kept, rows, limit)

        return Refresh(kept, drawn, lambda: detail_objects.cgroups(rows))

    watch_live(
        attach(plan, only=choice.in_kernel()), refresh, rows="cgroups",
        interval=interval, count=count, as_json=as_json, as_csv=as_csv,
    )  # fmt: skip
