"""`cowtrace objects`: show what the writes changed that copied pages of CPython processes."""

from __future__ import annotations

import click

from cowtrace.analysis.objects import object_rows, remedies
from cowtrace.cli import live
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, filter_options
from cowtrace.cli.live import Refresh
from cowtrace.cli.options import Output, live_options, rows_option
from cowtrace.machine import detail_objects
from cowtrace.model import Snapshot

# What was copied until an interpreter is found has no phase; what a process leaves behind when it
# ends may not be told any more.
_LOOK_SECONDS = 0.25


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace objects -p $(pgrep -o gunicorn) --follow\n"
    "  sudo cowtrace objects --comm python3 --json 10 1"
)
@filter_options
@rows_option("Show at most N rows; --json has all.")
@live_options
def objects(choice: Choice, limit: int, plan: str, output: Output) -> None:
    """Show what was written in CPython: reference counts, GC headers, data.

    Every INTERVAL seconds (1 by default), COUNT times; by default until interrupted, or until
    the processes of -p have ended (without --follow). Sums since the start. A copy is
    attributed to the write that caused it: the first to its page since the fork. Later writes
    to the page are not seen.

    \b
    reference count  of the object of that type
    GC header        links and flags of the collector, in front of the object
    object's own data
    buffer of an object      list items, dict keys: memory that is no object
    free list or allocator   headers of pools, free blocks
    memory outside arenas    of malloc() and mmap(): large objects, C libraries

    Below it stands what would avoid copies, each with the bytes that it would save at most.
    CPython 3.9 to 3.14 without free threading. Copies are sampled if a CPU makes more than 2,048
    in an interval; sums are then estimates.
    """

    def refresh(moment: Snapshot, _: Snapshot | None) -> Refresh:
        from cowtrace.terminal.objects import view

        now = choice.of(moment)
        rows = object_rows(now.samples)
        changes = remedies(rows)
        return Refresh(
            now,
            lambda: view(now, rows, changes, limit),
            lambda: detail_objects.written(now.samples, changes),
        )

    traced = attach(plan, objects=True, only=choice.in_tracer())
    live.watch(traced, refresh, "objects", output, look_seconds=_LOOK_SECONDS, pids=choice.alone)
