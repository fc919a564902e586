"""Render requirements and probe plans as a table in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.kernel.requirements import Requirement


@dataclass(frozen=True, slots=True)
class Trial:
    """One probe plan, tried on this kernel."""

    plan: str
    runs: bool
    refusal: str | None  # why not
    cannot_see: tuple[str, ...]  # kinds of fault that it cannot see
    blind_spots: tuple[str, ...]  # other limits of its counts, a sentence each


def report(
    kernel: str, requirements: Iterable[Requirement], trials: Iterable[Trial]
) -> RenderableType:
    """Everything that was looked for, then each plan, then which one `--attach auto` takes."""
    tried = tuple(trials)
    return Group(
        Text(f"kernel {kernel}\n"),
        _requirements(requirements),
        Text(),
        _plans(tried),
        Text(),
        _verdict(tried),
    )


def _requirements(requirements: Iterable[Requirement]) -> Table:
    table = _grid("REQUIREMENT", 17)
    for need in requirements:
        lines = Text(need.detail)
        if not need.found:
            lines.append(f"\ncosts: {need.cost}", "yellow")
            if need.mend:
                lines.append(f"\nmend: {need.mend}", "bold")
        table.add_row(_mark(need.found), need.name, lines)
    return table


def _plans(trials: Iterable[Trial]) -> Table:
    table = _grid("PLAN", 17)
    for trial in trials:
        lines = Text("attached and detached" if trial.runs else str(trial.refusal))
        if trial.cannot_see:
            lines.append("\nshows as -: " + ", ".join(trial.cannot_see))
        for spot in trial.blind_spots:
            lines.append(f"\n- {spot}")
        table.add_row(_mark(trial.runs, "runs", "refused"), trial.plan, lines)
    return table


def _verdict(trials: Iterable[Trial]) -> Text:
    for trial in trials:
        if trial.runs:
            return Text(f"cowtrace runs here: --attach auto takes the {trial.plan} plan", "bold")
    return Text("no plan runs on this kernel as things are", "bold red")


def _grid(name: str, width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, width=7)
    table.add_column(name, no_wrap=True, width=width)
    table.add_column("", overflow="fold")
    return table


def _mark(good: bool, yes: str = "found", no: str = "missing") -> Text:
    return Text(yes, "green") if good else Text(no, "red")
