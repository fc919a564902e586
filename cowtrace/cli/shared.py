"""`cowtrace shared`: show who shares how much memory with whom, now."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import click

from cowtrace.analysis.shared import Sharing, read
from cowtrace.cli.choice import Choice, process_options
from cowtrace.cli.chosen import Chosen
from cowtrace.cli.live import ENDING, ticks
from cowtrace.cli.options import Form, form_options, notice
from cowtrace.cli.signals import held
from cowtrace.files import private_file
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.memory_objects import sharing
from cowtrace.text import printable
from cowtrace.tracer.confinement import Needs, confine

if TYPE_CHECKING:
    from cowtrace.terminal.screen import Screen

_MOST_READINGS = 1000  # that the page shows: the last ones


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace shared -p $(pgrep -o gunicorn) --follow\n"
    "  sudo cowtrace shared --cgroup system.slice/app.service 1"
)
@partial(process_options, verb="read")
@click.option("--by", type=click.Choice(("pair", "mapping")), default="pair", show_default=True,
              help="Show what each two processes share, or each one's mappings.")  # fmt: skip
@click.option("--html", "page", metavar="OUT", help="Write one page, with charts, to OUT.")
@form_options
@click.argument("interval", type=click.FloatRange(min=0.05), required=False)
@click.argument("count", type=click.IntRange(min=1), required=False)
def shared(
    choice: Choice,
    by: str,
    page: str | None,
    form: Form,
    interval: float | None,
    count: int | None,
) -> None:
    """Show who shares how much memory with whom, now.

    Once; with INTERVAL, every INTERVAL seconds, COUNT times (until they have ended by default).
    It reads page frame numbers in /proc and needs no probe; it is for root. Nothing is read of
    the processes' memory.

    \b
    FREED    anonymous memory that no other process of the system maps: freed
    BY EXIT  when the process exits, unless the kernel or a device still uses it
    IN       anonymous memory that at least one other of these processes maps
    COMMON
    WITH     anonymous memory that processes map that are none of these
    OTHERS
    FILES    pages of files and of shared memory: not counted in FREED
    SWAPPED  anonymous memory in swap, which processes can share as well

    The second table has the anonymous memory that each two of them map; with --by mapping, the
    mappings of each one, where a page counts as often as it is mapped. --html draws the table of
    pairs, with INTERVAL also how sharing decays; it needs plotly: pip install 'cowtrace[report]'.
    """
    chosen = Chosen(choice)
    readings: list[Sharing] = []
    with ExitStack() as stack:
        out = stack.enter_context(private_file(page)) if page else None
        script = ""
        if page:
            from cowtrace.html import sharing_page
            from cowtrace.html.parts import plotly_script

            script = plotly_script("cowtrace shared, without --html")
        confine(None, Needs(frames=True, output=page))
        looks: Iterable[None] = [None]
        drawn: Screen | None = None
        if form == "table":
            from cowtrace.terminal.screen import screen
            from cowtrace.terminal.shared import view

            drawn = stack.enter_context(screen(sys.stdout))
        if interval is not None:
            signals = stack.enter_context(held(*ENDING, signal.SIGWINCH))
            resized = drawn.resized if drawn else None
            looks = chain(looks, ticks(signals, interval, count and count - 1, resized))
        lines = CsvLines(sys.stdout)
        known: dict[int, str] = {}
        for at, _ in enumerate(looks):
            names = chosen.now() if at else chosen.some()
            if not names:
                break
            now = read([*names], mappings=by == "mapping")
            if page:
                # Of earlier ones the page shows sums alone.
                sums = (replace(one, holders=(), pairs={}, mappings=None) for one in readings[-1:])
                readings = [*readings[-_MOST_READINGS:-1], *sums, now]
                known = names
            if drawn:
                drawn.show(view(now, names))
                continue
            found = sharing(now, names)
            if form == "csv":
                rows = found["mappings" if by == "mapping" else "processes"]
                lines.write({"now_ns": now.at_ns, **row} for row in rows)
            else:
                print(json.dumps(found), flush=True)
        if out:
            out.write(sharing_page.document(readings, known, script))
            notice(f"wrote {printable(page or '')}")
