"""`cowtrace maps`: attribute copies to the mappings that they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cowtrace.analysis.mappings import mapping_rows
from cowtrace.analysis.processes import DEFAULT_ROWS, SORT_KEYS
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice
from cowtrace.cli.live import Refresh
from cowtrace.cli.live import watch as watch_live
from cowtrace.cli.options import (
    attach_option,
    csv_option,
    filter_options,
    interval_arguments,
    json_option,
)
from cowtrace.machine import detail_objects
from cowtrace.model import Snapshot
from cowtrace.proc import Places

if TYPE_CHECKING:
    from cowtrace.terminal.screen import View


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace maps -p $(pidof redis-server)\n"
    "  sudo cowtrace maps -p 4711 --follow --addresses 10 1"
)
@filter_options
@click.option("--addresses", is_flag=True,
              help="Show one row per mapping, with its address and size.")  # fmt: skip
@click.option("--sort", type=click.Choice(SORT_KEYS, case_sensitive=False), default="bytes",
              show_default=True, help="Sort by this column; rate is /S.")  # fmt: skip
@click.option("--rows", "limit", type=click.IntRange(min=1), default=DEFAULT_ROWS,
              show_default=True, metavar="N",
              help="Show at most N rows; --json has all.")  # fmt: skip
@attach_option
@json_option
@csv_option
@interval_arguments
def maps(
    choice: Choice,
    addresses: bool,
    sort: str,
    limit: int,
    plan: str,
    as_json: bool,
    as_csv: bool,
    interval: float,
    count: int | None,
) -> None:
    """Show in which mappings pages are copied: heap, stack, files, live.

    Every INTERVAL seconds (1 by default), COUNT times (until interrupted by default); sums
    since the start, /S is bytes copied per second in the last interval. Mappings of one name
    and one segment (SEG, as in /proc/PID/maps) are one row. What an exited process had stays.

    \b
    [heap], [stack]  of the main thread
    [anon:NAME]      anonymous memory that was named by PR_SET_VMA_ANON_NAME
    [anon]           other anonymous memory: malloc's larger blocks, thread stacks
    +thp, +hugetlb   huge pages were hit
    """
    watch(
        choice, interval, count, plan=plan, as_json=as_json, as_csv=as_csv, limit=limit, sort=sort,
        addresses=addresses,
    )  # fmt: skip


def watch(
    choice: Choice,
    interval: float,
    count: int | None,
    *,
    plan: str,
    as_json: bool,
    as_csv: bool,
    limit: int,
    sort: str,
    addresses: bool = False,
) -> None:
    """Attach, then show the mappings at each interval."""
    one = len(choice.pids) == 1 and not choice.follow
    places = Places()

    def refresh(now: Snapshot, before: Snapshot | None) -> Refresh:
        kept = choice.of(now)
        rows = mapping_rows(kept, before, addresses=addresses or as_json or as_csv, sort=sort)

        def drawn() -> View:
            from cowtrace.terminal.mappings import view

            places.look(now)
            containers = places.of_pids(kept, (row.pid for row in rows[:limit]))
            return view(kept, rows, limit, containers, one=one, addresses=addresses)

        return Refresh(kept, drawn, lambda: detail_objects.mappings(rows))

    watch_live(
        attach(plan, details=frozenset({"mapping"}), only=choice.in_kernel()), refresh,
        rows="mappings", interval=interval, count=count, as_json=as_json, as_csv=as_csv,
    )  # fmt: skip
