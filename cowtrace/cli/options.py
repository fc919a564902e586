"""Define the options that several commands share, each once."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import click

from cowtrace.analysis.processes import DEFAULT_ROWS, SORT_KEYS
from cowtrace.machine.csv import CsvLines

Command = TypeVar("Command", bound=Callable[..., Any])
Form = Literal["table", "json", "csv"]
Lines = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Output:
    """How often a live command writes, and in which form."""

    interval: float  # seconds
    count: int | None  # of intervals; None: until interrupted
    form: Form


attach_option = click.option(
    "--attach", "plan", type=click.Choice(("auto", "fentry", "kprobe", "tracepoint")),
    default="auto", show_default=True,
    help="Choose the probe plan; auto: the cheapest plan that this kernel supports.",
)  # fmt: skip
verbose_option = click.option(
    "-v", "--verbose", is_flag=True,
    help="Also show all page faults, rarer kinds, and the origin of each fault.",
)  # fmt: skip
notices_option = click.option(
    "-v", "--verbose", is_flag=True, help="Report which probe plan is attached, and why."
)
latency_option = click.option(
    "--latency", is_flag=True, help="Also show the time in faults, by kind and side of the fork."
)


def sort_option(default: str) -> Callable[[Command], Command]:
    """--sort, by a column of the table of processes or of mappings."""
    return click.option(
        "--sort", type=click.Choice(SORT_KEYS, case_sensitive=False), default=default,
        show_default=True, help="Sort by this column; rate is /S.",
    )  # fmt: skip


def rows_option(words: str) -> Callable[[Command], Command]:
    """--rows, which limits tables only; the command gets it as `limit`."""
    return click.option(
        "--rows", "limit", type=click.IntRange(min=1), default=DEFAULT_ROWS, show_default=True,
        metavar="N", help=words,
    )  # fmt: skip


def form_options(command: Command) -> Command:
    """--json and --csv, at most one of them; the command gets `form`."""

    @functools.wraps(command)
    def in_form(*args: Any, as_json: bool, as_csv: bool, **kwargs: Any) -> Any:
        if as_csv and as_json:
            raise usage_error("--json and --csv cannot be combined", "give one of them")
        if as_csv and kwargs.get("latency"):
            raise usage_error("--csv has no columns for --latency", "run: cowtrace latency --csv")
        form: Form = "json" if as_json else "csv" if as_csv else "table"
        return command(*args, form=form, **kwargs)

    as_csv = click.option("--csv", "as_csv", is_flag=True, help="Write CSV, one row a line.")
    as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON, one object a line.")
    return as_json(as_csv(in_form))  # type: ignore[return-value]


def live_options(command: Command) -> Command:
    """--attach, --json, --csv and [INTERVAL [COUNT]], as vmstat(8) takes them.

    The command gets `plan` and `output`.
    """

    @functools.wraps(command)
    def live(*args: Any, interval: float, count: int | None, form: Form, **kwargs: Any) -> Any:
        return command(*args, output=Output(interval, count, form), **kwargs)

    count = click.argument("count", type=click.IntRange(min=1), required=False)
    interval = click.argument("interval", type=click.FloatRange(min=0.05), default=1.0)
    return attach_option(form_options(interval(count(live))))  # type: ignore[return-value]


def lines_of(form: Form) -> Lines | None:
    """The function that writes an object to stdout as JSON or CSV; None: write a table."""
    if form == "csv":
        lines = CsvLines(sys.stdout)
        return lambda row: lines.write([row])
    return (lambda row: print(json.dumps(row), flush=True)) if form == "json" else None


def usage_error(problem: str, hint: str) -> click.UsageError:
    """The error for options that do not go together; click adds the usage of the command."""
    return click.UsageError(f"{problem}\nHint: {hint}")


def notice(text: str) -> None:
    """Print one line on stderr, such as the attached plan and the reason for it."""
    click.echo(f"cowtrace: {text}", err=True)
