"""Define the options that several commands share, each once."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cowtrace.cli.choice import Choice

PLANS = ("auto", "fentry", "kprobe", "tracepoint")
# As cowtrace.model.FaultKind labels them; a test compares. So that --help imports nothing.
KINDS = (
    "copied",
    "file-copied",
    "zero-filled",
    "reused",
    "shared",
    "unchanged",
    "failed",
    "unclassified",
)

Command = TypeVar("Command", bound=Callable[..., Any])

attach_option = click.option(
    "--attach",
    "plan",
    type=click.Choice(PLANS),
    default="auto",
    show_default=True,
    help="Choose the probe plan; auto: the cheapest plan that this kernel supports.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, one object a line.")


def csv_option(command: Command) -> Command:
    """--csv, which cannot be combined with --json; the command gets `as_csv`."""

    @functools.wraps(command)
    def one_format(*args: Any, as_csv: bool, as_json: bool, **kwargs: Any) -> Any:
        if as_csv and as_json:
            raise click.UsageError("--csv or --json, one of them")
        if as_csv and kwargs.get("latency"):
            raise click.UsageError("--latency is a table of its own: cowtrace latency --csv")
        return command(*args, as_csv=as_csv, as_json=as_json, **kwargs)

    option = click.option("--csv", "as_csv", is_flag=True, help="Write CSV, one row a line.")
    return option(one_format)  # type: ignore[return-value]


Lines = Callable[[Mapping[str, Any]], None]


def lines_of(as_json: bool, as_csv: bool) -> Lines | None:
    """The function that writes an object to stdout as JSON or CSV; None: write a table."""
    if as_csv:
        from cowtrace.machine.csv import CsvLines

        lines = CsvLines(sys.stdout)
        return lambda row: lines.write([row])
    if as_json:
        return lambda row: print(json.dumps(row), flush=True)
    return None


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also show all page faults, rarer kinds, and the origin of each fault.",
)

notices_option = click.option(
    "-v", "--verbose", is_flag=True, help="Report which probe plan is attached, and why."
)

latency_option = click.option(
    "--latency", is_flag=True, help="Also show the time in faults, by kind and side of the fork."
)


def interval_arguments(command: Command) -> Command:
    """[INTERVAL [COUNT]], as vmstat(8) takes them."""
    count = click.argument("count", type=click.IntRange(min=1), required=False)
    interval = click.argument("interval", type=click.FloatRange(min=0.05), default=1.0)
    return interval(count(command))


_PROCESSES = (
    click.option("-p", "--pid", "pids", type=click.IntRange(min=1), multiple=True, metavar="PID",
                 help="Trace only this process; may be repeated."),
    click.option("--follow", is_flag=True,
                 help="With -p: also trace its present and future descendants."),
    click.option("--comm", metavar="GLOB",
                 help="Trace only processes whose name matches GLOB: 'redis*'."),
    click.option("--cgroup", metavar="PATH",
                 help="Trace only tasks in this cgroup (v2), as of a container, and below it."),
)  # fmt: skip
_KIND = click.option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    metavar="KIND",
    help=f"Trace only faults of this kind; may be repeated: {', '.join(KINDS)}.",
)


def process_options(command: Command) -> Command:
    """-p, --follow, --comm and --cgroup; the command gets them as one `choice`."""

    @functools.wraps(command)
    def chosen(
        *args: Any,
        pids: tuple[int, ...],
        follow: bool,
        comm: str | None,
        cgroup: str | None,
        kinds: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> Any:
        choice = _choice(pids, follow, comm, cgroup, kinds)
        return command(*args, choice=choice, **kwargs)

    for option in reversed(_PROCESSES):
        chosen = option(chosen)
    return chosen  # type: ignore[return-value]


def filter_options(command: Command) -> Command:
    """The options of `process_options`, and --kind."""
    return process_options(_KIND(command))


def _choice(
    pids: tuple[int, ...],
    follow: bool,
    comm: str | None,
    cgroup: str | None,
    kinds: tuple[str, ...],
) -> Choice:
    from cowtrace import proc
    from cowtrace.cli import cgroups
    from cowtrace.cli.choice import Choice
    from cowtrace.model import FaultKind

    if follow and not pids:
        raise click.UsageError("--follow needs -p: whose descendants?")
    return Choice(
        names=tuple((pid, proc.comm(pid)) for pid in dict.fromkeys(pids)),
        follow=follow,
        cgroup=cgroups.folder(cgroup) if cgroup else None,
        comm=comm,
        kinds=frozenset(kind for kind in FaultKind if kind.label in kinds),
    )


def notice(text: str) -> None:
    """Print one line on stderr, such as the attached plan and the reason for it."""
    click.echo(f"cowtrace: {text}", err=True)
