"""Write what other tools open out of a recording: a profile, or a timeline."""

from __future__ import annotations

import click

from cowtrace.analysis.processes import DEFAULT_ROWS
from cowtrace.analysis.profile import recorded
from cowtrace.analysis.stacks import stack_tree
from cowtrace.analysis.timeline import timeline
from cowtrace.cli.stacks import form_of, write_profile, write_tree
from cowtrace.files import private_file
from cowtrace.machine.chrome_trace import write_chrome_trace
from cowtrace.model import COPIES
from cowtrace.recording import Recording
from cowtrace.text import printable


def profile_file(recording: Recording, name: str) -> None:
    """Write a profile in the format that the name of its file ends with."""
    form = form_of(name)
    now = recording.last
    rows, sampled = recorded(recording)
    with private_file(name) as out:
        if form == "pprof":
            pairs = zip(now.processes, recording.places, strict=False)
            found = {process.pid: place.cgroup for process, place in pairs}
            cgroups = {pid: cgroup for pid, cgroup in found.items() if cgroup is not None}
            ended_ns = recording.header.started_unix_ns + now.at_ns - now.attached_ns
            write_profile(out, now, rows, cgroups, ended_ns=ended_ns, sampled=sampled)
        else:
            tree = stack_tree(now, (row for row in rows if row.kind in COPIES))
            write_tree(out, form, now, tree, DEFAULT_ROWS, sampled=sampled)
    click.echo(f"cowtrace: wrote {printable(name)}", err=True)


def trace_file(recording: Recording, name: str) -> None:
    """Write when processes lived, forked and copied, for Perfetto."""
    found = timeline(recording)
    with private_file(name) as out:
        write_chrome_trace(out, recording, found)
    without = f", without the {found.left_out:,} processes that copied least"
    click.echo(f"cowtrace: wrote {printable(name)}{without * (found.left_out > 0)}", err=True)
