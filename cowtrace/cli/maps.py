"""`cowtrace maps`: attribute copies to the mappings that they are in."""

from __future__ import annotations

import click

from cowtrace.analysis.mappings import mapping_rows
from cowtrace.cli import live
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, filter_options
from cowtrace.cli.live import Refresh
from cowtrace.cli.options import Output, live_options, rows_option, sort_option
from cowtrace.kernel.options import Detail
from cowtrace.machine import detail_objects
from cowtrace.model import Snapshot
from cowtrace.proc import Places

_MAPPING: frozenset[Detail] = frozenset({"mapping"})
_WITH_EIGHTHS: frozenset[Detail] = frozenset({"mapping", "page-eighth"})


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace maps -p $(pidof redis-server)\n"
    "  sudo cowtrace maps -p 4711 --follow --addresses 10 1"
)
@filter_options
@click.option("--addresses", is_flag=True,
              help="Show a row for each mapping: address, size, place of writes.")  # fmt: skip
@sort_option("bytes")
@rows_option("Show at most N rows; --json has all.")
@live_options
def maps(choice: Choice, addresses: bool, sort: str, limit: int, plan: str, output: Output) -> None:
    """Show in which mappings pages are copied: heap, stack, files, live.

    Every INTERVAL seconds (1 by default), COUNT times; by default until interrupted, or until
    the processes of -p have ended (without --follow). Sums since the start, /S is bytes copied
    per second in the last interval. Mappings with the same name and segment (SEG, as in
    /proc/PID/maps) are one row. Rows of exited processes stay; of too many, the smallest become
    one, [ended].

    \b
    [heap], [stack]  of the main thread
    [anon:NAME]      anonymous memory that was named by PR_SET_VMA_ANON_NAME
    [anon]           other anonymous memory: malloc's larger blocks, thread stacks
    +thp, +hugetlb   huge pages were hit
    IN PAGE          with --addresses: a bar for each eighth of the page,
                     by how many copying writes began there
    """
    watch(choice, plan, output, limit, sort, addresses=addresses)


def watch(
    choice: Choice, plan: str, output: Output, limit: int, sort: str, *, addresses: bool = False
) -> None:
    """Attach, then show the mappings at each interval."""
    one = len(choice.pids) == 1 and not choice.follow
    each = addresses or output.form != "table"
    places = Places()

    def refresh(now: Snapshot, before: Snapshot | None) -> Refresh:
        from cowtrace.terminal.mappings import view

        chosen = choice.of(now)
        rows = mapping_rows(chosen, before, addresses=each, sort=sort)
        places.look(now)
        pids = [row.pid for row in rows[:limit]]
        return Refresh(
            chosen,
            lambda: view(
                chosen, rows, limit, places.of_pids(chosen, pids), one=one, addresses=addresses
            ),
            lambda: detail_objects.mappings(rows),
        )

    traced = attach(
        plan, details=_WITH_EIGHTHS if addresses else _MAPPING, only=choice.in_tracer(),
        fold=choice.is_everything,
    )  # fmt: skip
    live.watch(traced, refresh, "mappings", output, pids=choice.alone)
