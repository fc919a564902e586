"""Render the list of workloads, and a comparison in 80 columns with its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.table import Table
from rich.text import Text

from cowtrace.model import FaultKind
from cowtrace.numbers import MISSING, count, duration
from cowtrace.workloads.comparison import Comparison, Row
from cowtrace.workloads.outcome import Outcome
from cowtrace.workloads.workload import Workload


def catalogue(workloads: Iterable[Workload]) -> Table:
    """A table of names and summaries."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("WORKLOAD", no_wrap=True)
    table.add_column("WHAT IT DOES: WHAT HAPPENS TO ITS PAGES")
    for workload in workloads:
        table.add_row(workload.name, Text(workload.summary))
    return table


def counts(compared: Comparison, *, every_kind: bool = False) -> Table:
    """A line for each process and kind that occurred, or was expected to."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("PROCESS", "PID", "KIND", "EXPECTED", "TRACED", "PAGEMAP", ""):
        number = header in ("PID", "EXPECTED", "TRACED", "PAGEMAP")
        table.add_column(header, justify="right" if number else "left", no_wrap=True)
    for row in compared.rows if every_kind else _shown(compared.rows):
        bound = "≤ " if row.upper_bound and row.traced else ""
        counts = (count(row.expected), bound + count(row.traced), count(row.pagemap))
        mark = Text("ok" if row.observed else MISSING)
        if not row.ok:
            mark = Text("differs", style="bold red")
        table.add_row(row.role, str(row.pid), row.kind.label, *counts, mark)
    return table


def times(outcome: Outcome) -> Text:
    """Mean time to write a page in each process that wrote: with faults, while traced."""
    lines = (
        f"{process.role} {process.pid} wrote {process.written_pages:,} pages, "
        f"{duration(process.ns_per_page)} each"
        for process in outcome.processes
        if process.ns_per_page is not None
    )
    return Text("\n".join(lines))


def verdict(compared: Comparison) -> Text:
    """Whether all counts agree, and if not which do not; then the plan and the kernel."""
    numbers = {
        f"of {len(compared.rows)} counts differ": sum(not row.ok for row in compared.rows),
        "counts by source and origin differ": sum(not one.ok for one in compared.details),
        "failed": compared.failed,
        "unclassified": compared.unclassified,
        "lost": compared.lost,
    }
    problems = [f"{number:,} {what}" for what, number in numbers.items() if number]
    problems += [] if compared.data_right else ["wrong data was read back"]
    shown = list(_shown(compared.rows))
    text = Text(f"{compared.workload}: ")
    if problems:
        text.append("not as expected: " + ", ".join(problems), style="bold red")
    else:
        all_exact = all(row.traced is not None and not row.upper_bound for row in shown)
        how = "page for page" if all_exact else "as far as this plan can show"
        text.append(f"as expected, {how}", style="bold green")
    text.append(
        f"\nplan {compared.plan}, kernel {compared.kernel}, "
        f"unclassified {compared.unclassified}, lost {compared.lost}"
    )
    if any(row.traced is None or row.pagemap is None for row in shown):
        text.append("\n-  this plan, or pagemap, does not show it")
    if any(row.upper_bound and row.traced for row in shown):
        text.append("\n≤  upper bound: this plan also counts threads that lost a race for a page")
    return text


def _shown(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows that are not empty; for a process without one, its row of copies: 0."""
    for _, group in groupby(rows, key=lambda row: row.pid):
        all_of_one = list(group)
        some = [row for row in all_of_one if not (row.ok and row.empty)]
        yield from some or [row for row in all_of_one if row.kind is FaultKind.COPIED]
