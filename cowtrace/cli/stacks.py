"""`cowtrace stacks`: show the code that copies pages, as a list or as a flame graph."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, TextIO

import click

from cowtrace.analysis.processes import DEFAULT_ROWS
from cowtrace.analysis.stacks import Node, stack_tree
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice
from cowtrace.cli.live import Refresh, watch
from cowtrace.cli.options import (
    attach_option,
    csv_option,
    filter_options,
    interval_arguments,
    json_option,
)
from cowtrace.kernel.plan import Detail
from cowtrace.machine import detail_objects
from cowtrace.model import COPIES, DetailRow, Snapshot
from cowtrace.numbers import count as short_count
from cowtrace.numbers import size

FORMATS = ("top", "folded", "speedscope", "flamegraph")
_SUFFIXES = {
    ".html": "flamegraph",
    ".folded": "folded",
    ".speedscope.json": "speedscope",
    ".txt": "top",
}

if TYPE_CHECKING:
    from cowtrace.terminal.screen import View


@click.command(
    epilog="\b\nExamples: a live list; a flame graph of the next 10 s\n"
    "  sudo cowtrace stacks -p 4711\n"
    "  sudo cowtrace stacks -p 4711 --follow -o copies.html 10 1"
)
@filter_options
@click.option("-o", "--output", metavar="FILE",
              help="Write to FILE at the end: .html, .folded, .speedscope.json, .txt.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(FORMATS),
              help="Format of FILE, unless its name ends with it; top is the list.")  # fmt: skip
@click.option("--frame-pointers", is_flag=True,
              help="Count every copy, not samples: for programs with frame pointers.")  # fmt: skip
@click.option("--kernel", is_flag=True,
              help="Include the kernel's part of the stack; implies --frame-pointers.")  # fmt: skip
@click.option("--rows", "limit", type=click.IntRange(min=1), default=DEFAULT_ROWS,
              show_default=True, metavar="N",
              help="List at most N functions.")  # fmt: skip
@attach_option
@json_option
@csv_option
@interval_arguments
def stacks(
    choice: Choice,
    output: str | None,
    form: str | None,
    frame_pointers: bool,
    kernel: bool,
    limit: int,
    plan: str,
    as_json: bool,
    as_csv: bool,
    interval: float,
    count: int | None,
) -> None:
    """Show which code copies pages: functions, or a flame graph.

    A live list every INTERVAL seconds (1 by default), COUNT times (until interrupted by
    default). Any other format is written once, at the end: after INTERVAL times COUNT seconds,
    or on Ctrl-C. SELF is what a function's own instructions copied, TOTAL with all that it
    called. Only copies have stacks: --kind takes copied and file-copied.

    Stacks are sampled and unwound by debug tables (DWARF), as most programs keep no frame
    pointers: every copy while they are few, fewer when they are many; sums are then estimates.
    Python functions are named if it runs with python3 -X perf (3.12 and later).
    """
    form = form or _by_suffix(output)
    machine = as_json or as_csv
    if machine and form != "top":
        name = "--json" if as_json else "--csv"
        raise click.UsageError(f"{name} is a format of its own, and so is {form}")
    exact = frame_pointers or kernel
    details: set[Detail] = {"stack"} if exact else set()
    if kernel:
        details.add("kernel-stack")
    live_list = form == "top" and output is None

    def refresh(moment: Snapshot, _: Snapshot | None) -> Refresh:
        now = choice.of(moment)

        def drawn() -> View:
            from cowtrace.terminal.stacks import view

            return view(now, _tree(now, exact), limit, sampled=not exact)

        return Refresh(now, drawn, lambda: detail_objects.stacks(_rows(now, exact), not exact))

    with ExitStack() as stack:
        out = _output(stack, output)

        def write(now: Snapshot) -> None:
            _write(out, form, now, _tree(now, exact), limit, sampled=not exact)

        live = attach(plan, details=frozenset(details), samples=not exact, only=choice.in_kernel())
        watch(
            live, refresh, rows="stacks",
            interval=interval, count=count, as_json=as_json, as_csv=as_csv, out=out,
            show=live_list, look=True, at_end=None if live_list or machine else write,
        )  # fmt: skip


def _by_suffix(output: str | None) -> str:
    if output is None:
        return "top"
    for suffix, form in _SUFFIXES.items():
        if output.endswith(suffix):
            return form
    raise click.UsageError(
        f"which format? name the file {' or '.join(_SUFFIXES)}, or give --format"
    )


def _output(stack: ExitStack, output: str | None) -> TextIO:
    """Open it before tracing starts: a bad path must not cost the trace."""
    if output is None:
        return sys.stdout
    from cowtrace.files import private_file

    return stack.enter_context(private_file(output))


def _rows(now: Snapshot, exact: bool) -> tuple[DetailRow, ...]:
    return tuple(r for r in now.details if r.kind in COPIES) if exact else now.samples


def _tree(now: Snapshot, exact: bool) -> Node:
    return stack_tree(now, _rows(now, exact))


def _write(out: TextIO, form: str, now: Snapshot, root: Node, limit: int, *, sampled: bool) -> None:
    seconds = (now.at_ns - now.attached_ns) / 1e9
    title = f"{size(root.total_bytes, ' ')} copied in {seconds:,.1f} s, by code"
    if form == "folded":
        from cowtrace.machine import folded

        folded.write(out, root)
    elif form == "speedscope":
        from cowtrace.machine import speedscope

        speedscope.write(out, root, title)
    elif form == "flamegraph":
        from cowtrace.html import flamegraph

        flamegraph.write(out, root, title, _subtitle(now, root, sampled))
    else:
        from cowtrace.terminal import plain
        from cowtrace.terminal.stacks import view
        from cowtrace.text import COLUMNS

        shown = view(now, root, limit, sampled=sampled)
        plain.write(plain.console(out), shown.draw(limit, COLUMNS))


def _subtitle(now: Snapshot, root: Node, sampled: bool) -> str:
    how = "estimated from samples" if sampled else "every copy"
    return (
        f"{short_count(root.faults)} copies ({how}), plan {now.plan}, kernel {now.kernel}, "
        f"lost {now.completeness.lost:,}"
    )
