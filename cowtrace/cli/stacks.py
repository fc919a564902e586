"""`cowtrace stacks`: show the code that copies pages, as a list or as a flame graph."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TextIO

import click

from cowtrace import numbers
from cowtrace.analysis.stacks import Node, stack_tree
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, filter_options
from cowtrace.cli.live import Refresh, watch
from cowtrace.cli.options import Output, live_options, rows_option, usage_error
from cowtrace.files import private_file
from cowtrace.kernel.plan import Detail
from cowtrace.machine import detail_objects
from cowtrace.machine.stacks import write_folded, write_speedscope
from cowtrace.model import COPIES, DetailRow, Snapshot
from cowtrace.text import COLUMNS, printable
from cowtrace.tracer import Needs

FORMATS = ("top", "folded", "speedscope", "flamegraph")
_SUFFIXES = {
    ".html": "flamegraph",
    ".folded": "folded",
    ".speedscope.json": "speedscope",
    ".txt": "top",
}


@click.command(
    epilog="\b\nExamples: a live list; a flame graph of the next 10 s\n"
    "  sudo cowtrace stacks -p 4711\n"
    "  sudo cowtrace stacks -p 4711 --follow -o copies.html 10 1"
)
@filter_options
@click.option("-o", "--output", "file", metavar="FILE",
              help="Write to FILE at the end: .html, .folded, .speedscope.json, .txt.")  # fmt: skip
@click.option("--format", "file_format", type=click.Choice(FORMATS),
              help="Write this format, whatever the name of FILE; top is the list.")  # fmt: skip
@click.option("--frame-pointers", is_flag=True,
              help="Count every copy, not samples: for programs with frame pointers.")  # fmt: skip
@click.option("--kernel", is_flag=True,
              help="Include the kernel's part of the stack; implies --frame-pointers.")  # fmt: skip
@click.option("--objects", is_flag=True,
              help="Show below each function what it wrote: see cowtrace objects.")  # fmt: skip
@rows_option("List at most N functions.")
@live_options
def stacks(
    choice: Choice,
    file: str | None,
    file_format: str | None,
    frame_pointers: bool,
    kernel: bool,
    objects: bool,
    limit: int,
    plan: str,
    output: Output,
) -> None:
    """Show which code copies pages: functions, or a flame graph.

    A live list every INTERVAL seconds (1 by default), COUNT times (until interrupted by
    default). Any other format is written once, at the end: after INTERVAL times COUNT seconds,
    or on Ctrl-C. SELF is what a function's own instructions copied, TOTAL with all that it
    called. Only copies have stacks: --kind takes copied and file-copied.

    Stacks are sampled and unwound by debug tables (DWARF), as most programs keep no frame
    pointers: every copy while they are few, fewer when they are many; sums are then estimates.
    Functions of CPython 3.9 to 3.14 have their names, also without python3 -X perf.
    """
    file_format = file_format or _by_suffix(file)
    if output.form != "table" and file_format != "top":
        raise usage_error(
            f"--{output.form} and the format {file_format} cannot be combined",
            f"leave out --{output.form}",
        )
    exact = frame_pointers or kernel
    if exact and objects:
        raise usage_error(
            "--objects cannot be combined with --frame-pointers or --kernel", "leave out one"
        )
    details: set[Detail] = {"stack"} if exact else set()
    if kernel:
        details.add("kernel-stack")

    def tree(now: Snapshot) -> Node:
        return stack_tree(now, _rows(now, exact), written=objects)

    def refresh(moment: Snapshot, _: Snapshot | None) -> Refresh:
        from cowtrace.terminal.stacks import view

        now = choice.of(moment)
        return Refresh(
            now,
            lambda: view(now, tree(now), limit, sampled=not exact),
            lambda: detail_objects.stacks(_rows(now, exact), not exact),
        )

    # Opened before tracing starts: a bad path must not cost the trace.
    with private_file(file) if file else nullcontext(sys.stdout) as out:

        def write(now: Snapshot) -> None:
            _write(out, file_format, now, tree(now), limit, sampled=not exact)

        once = output.form == "table" and (file_format != "top" or file)
        live = attach(
            plan, details=frozenset(details), samples=not exact, objects=objects,
            only=choice.in_kernel(),
        )  # fmt: skip
        watch(
            live, refresh, "stacks", output, out=out, look=True, needs=Needs(output=file),
            at_end=write if once else None,
        )  # fmt: skip


def _by_suffix(file: str | None) -> str:
    if file is None:
        return "top"
    for suffix, form in _SUFFIXES.items():
        if file.endswith(suffix):
            return form
    raise usage_error(
        f"the name of {printable(file)} does not end with a format",
        f"name it {', '.join(_SUFFIXES)}; or give --format",
    )


def _rows(now: Snapshot, exact: bool) -> tuple[DetailRow, ...]:
    return tuple(r for r in now.details if r.kind in COPIES) if exact else now.samples


def _write(out: TextIO, form: str, now: Snapshot, root: Node, limit: int, *, sampled: bool) -> None:
    seconds = (now.at_ns - now.attached_ns) / 1e9
    title = f"{numbers.size(root.total_bytes, ' ')} copied in {seconds:,.1f} s, by code"
    if form == "folded":
        write_folded(out, root)
    elif form == "speedscope":
        write_speedscope(out, root, title)
    elif form == "flamegraph":
        from cowtrace.html import flamegraph

        how = "estimated from samples" if sampled else "every copy"
        subtitle = (
            f"{numbers.count(root.faults)} copies ({how}), plan {now.plan}, kernel {now.kernel}, "
            f"lost {now.completeness.lost:,}, in details {now.completeness.lost_details:,}"
        )
        flamegraph.write(out, root, title, subtitle)
    else:
        from cowtrace.terminal import plain
        from cowtrace.terminal.stacks import view

        plain.write(out, view(now, root, limit, sampled=sampled).draw(limit, COLUMNS))
