"""`cowtrace stacks`: show the code that copies pages, as a list or as a flame graph."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import TextIO

import click

from cowtrace import numbers
from cowtrace.analysis.profile import profile
from cowtrace.analysis.stacks import Node, stack_tree
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, filter_options
from cowtrace.cli.live import Refresh, watch
from cowtrace.cli.options import Output, live_options, rows_option, usage_error
from cowtrace.files import private_file
from cowtrace.kernel.options import Detail
from cowtrace.machine import detail_objects
from cowtrace.machine.pprof import write_pprof
from cowtrace.machine.stacks import write_folded, write_speedscope
from cowtrace.model import COPIES, DetailRow, Snapshot
from cowtrace.proc import Places
from cowtrace.text import COLUMNS, printable
from cowtrace.tracer import Needs

FORMATS = ("top", "folded", "speedscope", "flamegraph", "pprof")
_SUFFIXES = {
    ".html": "flamegraph",
    ".folded": "folded",
    ".speedscope.json": "speedscope",
    ".pb.gz": "pprof",
    ".txt": "top",
}


@click.command(
    epilog="\b\nExamples: a live list; a flame graph of the next 10 s\n"
    "  sudo cowtrace stacks -p 4711\n"
    "  sudo cowtrace stacks -p 4711 --follow -o copies.html 10 1"
)
@filter_options
@click.option("-o", "--output", "file", metavar="FILE",
              help="Write to FILE: .html, .pb.gz, .folded, .speedscope.json, .txt.")  # fmt: skip
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

    A live list every INTERVAL seconds (1 by default), COUNT times; by default until
    interrupted, or until the processes of -p have ended (without --follow). Any other format is
    written once, at the end: after INTERVAL times COUNT seconds, or on Ctrl-C; pprof opens
    .pb.gz. SELF is what a function's own instructions copied, TOTAL with all that it called.
    Only copies have stacks: --kind takes copied and file-copied.

    Stacks are sampled and unwound by debug tables (DWARF), as most programs keep no frame
    pointers: every copy while they are few, fewer when they are many; sums are then estimates.
    Functions of CPython 3.9 to 3.14 have their names, also without python3 -X perf.
    """
    file_format = file_format or ("top" if file is None else form_of(file, "; or give --format"))
    if file_format == "pprof" and file is None and sys.stdout.isatty():
        raise usage_error("a profile is no text for a terminal", "name a file: -o copies.pb.gz")
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
    places = Places()

    def tree(now: Snapshot) -> Node:
        return stack_tree(now, _rows(now, exact), written=objects)

    def refresh(moment: Snapshot, _: Snapshot | None) -> Refresh:
        from cowtrace.terminal.stacks import view

        now = choice.of(moment)
        if file_format == "pprof":  # the cgroup of a process that has ended could not be read
            _cgroups(places, now)
        return Refresh(
            now,
            lambda: view(now, tree(now), limit, sampled=not exact),
            lambda: detail_objects.stacks(_rows(now, exact), not exact),
        )

    # Opened before tracing starts: a bad path must not cost the trace.
    with private_file(file) if file else nullcontext(sys.stdout) as out:

        def write(now: Snapshot) -> None:
            if file_format == "pprof":
                # Of every kind: an exact trace has the faults that copied nothing, too.
                rows = now.details if exact else now.samples
                write_profile(
                    out, now, rows, _cgroups(places, now), ended_ns=time.time_ns(),
                    sampled=not exact,
                )  # fmt: skip
            else:
                write_tree(out, file_format, now, tree(now), limit, sampled=not exact)

        once = output.form == "table" and (file_format != "top" or file)
        live = attach(
            plan, details=frozenset(details), samples=not exact, objects=objects,
            only=choice.in_tracer(),
        )  # fmt: skip
        watch(
            live, refresh, "stacks", output, out=out, look_seconds=1.0, needs=Needs(output=file),
            at_end=write if once else None, pids=choice.alone,
        )  # fmt: skip


def form_of(file: str, or_else: str = "") -> str:
    """The format that the name of a file ends with. `or_else`: what the hint says besides."""
    for suffix, form in _SUFFIXES.items():
        if file.endswith(suffix):
            return form
    raise usage_error(
        f"the name of {printable(file)} does not end with a format",
        f"name it {', '.join(_SUFFIXES)}{or_else}",
    )


def _rows(now: Snapshot, exact: bool) -> tuple[DetailRow, ...]:
    return tuple(r for r in now.details if r.kind in COPIES) if exact else now.samples


def _cgroups(places: Places, now: Snapshot) -> dict[int, str]:
    """By PID, those that are known."""
    places.look(now)
    found = {process.pid: places.of(process).cgroup for process in now.processes}
    return {pid: cgroup for pid, cgroup in found.items() if cgroup is not None}


def write_profile(
    out: TextIO,
    now: Snapshot,
    rows: tuple[DetailRow, ...],
    cgroups: dict[int, str],
    *,
    ended_ns: int,
    sampled: bool,
) -> None:
    """Write rows for pprof. `ended_ns`: when the snapshot was taken, since the epoch."""
    done, took = now.completeness, now.at_ns - now.attached_ns
    comments = (
        "estimated from samples" if sampled else "every copy",
        f"plan {now.plan}, kernel {printable(now.kernel)}",
        f"lost {done.lost}, in details {done.lost_details}",
    )
    out.flush()
    write_pprof(
        out.buffer, profile(now, rows, cgroups, copies_only=sampled),
        began_ns=ended_ns - took, duration_ns=took, comments=comments,
    )  # fmt: skip


def write_tree(
    out: TextIO, form: str, now: Snapshot, root: Node, limit: int, *, sampled: bool
) -> None:
    """Write any other format than pprof's."""
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
