"""Render the table of measured tracing costs in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.analysis.cost import Cost
from cowtrace.numbers import MISSING, brief, percent


def cost_table(costs: Iterable[Cost]) -> RenderableType:
    """A line for each way to trace."""
    found = tuple(costs)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("USED BY", no_wrap=True)
    for header in ("BPF/FAULT", "COPY TIME", "MORE", "CPU"):
        table.add_column(header, justify="right", no_wrap=True)
    if found:
        table.add_row("nothing attached", MISSING, brief(found[0].ns_per_copy_without), "", "")
    for cost in found:
        share = MISSING if cost.cpu_share is None else percent(cost.cpu_share)
        bpf = MISSING if cost.ns_per_fault is None else brief(cost.ns_per_fault)
        more = cost.ns_per_copy_with - cost.ns_per_copy_without
        change = f"{more / cost.ns_per_copy_without * 100:+.0f}%"
        table.add_row(cost.used_by, bpf, brief(cost.ns_per_copy_with), change, share)
    copies = max((cost.copies for cost in found), default=0)
    words = (
        f"Measured here, under the {found[0].plan if found else MISSING} plan, while a process "
        f"copied {copies:,} pages one after the other. CPU: the share of one CPU that the BPF "
        "programs alone took, at that rate. The kernel's statistics were on only meanwhile."
    )
    return Group(Text("What it costs", "bold"), table, Text(words, "dim"))
