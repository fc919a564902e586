"""Render requirements, probe plans and measured tracing costs in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.analysis.cost import Cost
from cowtrace.kernel.plan import PlanName
from cowtrace.kernel.requirements import Requirement
from cowtrace.numbers import MISSING, brief, percent


@dataclass(frozen=True, slots=True)
class Trial:
    """One probe plan, tried on this kernel."""

    plan: PlanName
    runs: bool
    refusal: str | None  # why not
    counts: str | None  # where it sees a fault
    cannot_see: tuple[str, ...]  # kinds of fault that it cannot see
    blind_spots: tuple[str, ...]  # other limits of its counts, a sentence each


def report(
    kernel: str, requirements: Iterable[Requirement], trials: Sequence[Trial], why: str | None
) -> RenderableType:
    """The requirements, then each plan, then the one that `--attach auto` takes, and why."""
    verdict = Text("no plan runs on this kernel as things are", "bold red")
    verdict.append("\ncowtrace shared and private need no probe", "not bold")
    if first := next((trial.plan for trial in trials if trial.runs), None):
        verdict = Text(f"cowtrace runs here: --attach auto takes the {first} plan", "bold")
        verdict.append(f"\n{why}", "not bold")
    title = Text(f"kernel {kernel}\n")
    return Group(title, _requirements(requirements), Text(), _plans(trials), Text(), verdict)


def cost_table(costs: Sequence[Cost]) -> RenderableType:
    """A line for each way to trace, after one for no tracing."""
    table = _table()
    table.add_column("USED BY", no_wrap=True)
    for header in ("BPF/FAULT", "COPY TIME", "MORE", "CPU"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_row("nothing attached", MISSING, brief(costs[0].ns_per_copy_without), "", "")
    for cost in costs:
        more = cost.ns_per_copy_with / cost.ns_per_copy_without - 1
        table.add_row(
            cost.used_by,
            brief(cost.ns_per_fault),
            brief(cost.ns_per_copy_with),
            f"{more * 100:+.0f}%",
            percent(cost.cpu_share),
        )
    words = (
        f"Measured here, under the {costs[0].plan} plan, while a process copied "
        f"{costs[0].copies:,} pages one after the other. CPU: the share of one CPU that the BPF "
        "programs alone took, at that rate. The kernel's statistics were on only meanwhile."
    )
    return Group(Text("What it costs", "bold"), table, Text(words, "dim"))


def _requirements(requirements: Iterable[Requirement]) -> Table:
    table = _grid("REQUIREMENT")
    for need in requirements:
        lines = Text(need.detail)
        if not need.found:
            lines.append(f"\ncosts: {need.cost}", "yellow")
            if need.mend:
                lines.append(f"\nmend: {need.mend}", "bold")
        table.add_row(_mark(need.found), need.name, lines)
    return table


def _plans(trials: Iterable[Trial]) -> Table:
    table = _grid("PLAN")
    for trial in trials:
        lines = Text("attached and detached" if trial.runs else str(trial.refusal))
        if trial.counts:
            lines.append(f"\n{trial.counts}")
        if trial.cannot_see:
            lines.append("\nshows as -: " + ", ".join(trial.cannot_see))
        for spot in trial.blind_spots:
            lines.append(f"\n- {spot}")
        table.add_row(_mark(trial.runs, "runs", "refused"), trial.plan, lines)
    return table


def _grid(name: str) -> Table:
    table = _table()
    table.add_column("", no_wrap=True, width=7)
    table.add_column(name, no_wrap=True, width=17)
    table.add_column("", overflow="fold")
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))


def _mark(good: bool, yes: str = "found", no: str = "missing") -> Text:
    return Text(yes, "green") if good else Text(no, "red")
