"""`cowtrace workload`: run a workload whose counts are known; compare them with the trace."""

from __future__ import annotations

import json
import sys

import click

from cowtrace import workloads
from cowtrace.cli.attach import attach
from cowtrace.cli.options import Form, attach_option, form_options, lines_of, verbose_option
from cowtrace.errors import EXIT_MISMATCH, EXIT_USAGE, CowtraceError
from cowtrace.machine.csv import CsvLines
from cowtrace.terminal.screen import show
from cowtrace.workloads import table
from cowtrace.workloads.comparison import comparison
from cowtrace.workloads.region import REGION_END, REGION_START
from cowtrace.workloads.workload import WORKLOADS, check_pages, find

DEFAULT_PAGES = 509  # a prime: counts that double, or that halve, show


@click.command(epilog="\b\nExample:\n  sudo cowtrace workload fork-both-write --pages 1000")
@click.argument("name", required=False)
@click.option("--pages", type=int, default=DEFAULT_PAGES, show_default=True, metavar="N",
              help="Write N pages.")  # fmt: skip
@click.option("--list", "show_list", is_flag=True, help="List all workloads and what they do.")
@attach_option
@form_options
@verbose_option
def workload(
    name: str | None, pages: int, show_list: bool, plan: str, form: Form, verbose: bool
) -> None:
    """Run a workload whose counts are known; compare them with the trace.

    Shows, for each process and kind of fault, what was expected, what was traced, and what the
    frame numbers in /proc/PID/pagemap say, which is independent of the trace. Only faults in the
    workload's own pages count. Exit code 4 if anything differs, or if the trace was not complete.
    """
    if show_list:
        _list(form)
        return
    if name is None:
        raise CowtraceError(
            "no workload is named",
            hint="list all workloads: cowtrace workload --list",
            exit_code=EXIT_USAGE,
        )
    chosen = find(name)
    check_pages(chosen, pages)  # before the tracer takes its time
    region = (REGION_START, REGION_END)
    forks = chosen.fork_copies
    with attach(plan, verbose=verbose, region=region, fork_copies=forks, outcomes=True) as live:
        outcome = workloads.run(name, pages)
        compared = comparison(outcome, live.snapshot())
    if form == "json":
        print(json.dumps(compared.as_dict()))
    elif form == "csv":
        CsvLines(sys.stdout).write(compared.as_dict()["rows"])
    else:
        click.echo(f"{name}, {pages:,} pages of {outcome.page_bytes:,} bytes:")
        click.echo(f"{chosen.summary}\n")
        show(table.counts(compared, every_kind=verbose))
        if verbose:
            show(table.times(outcome))
        click.echo()
        show(table.verdict(compared))
    if not compared.ok:
        click.get_current_context().exit(EXIT_MISMATCH)


def _list(form: Form) -> None:
    if lines := lines_of(form):
        for known in WORKLOADS.values():
            lines({"name": known.name, "summary": known.summary})
    else:
        show(table.catalogue(WORKLOADS.values()))
