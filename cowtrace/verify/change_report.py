"""Render differences between kernels, runs or plans in 80 columns, and as JSON objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.text import printable
from cowtrace.verify.agreement import PLANS_DIFFER, Disagreement, disagreements
from cowtrace.verify.baseline import Since
from cowtrace.verify.differences import Change, Difference, by_workload
from cowtrace.verify.groups import title
from cowtrace.verify.matrix import KernelChecks, plans_words

_STYLES = {
    Change.WORSE: "bold red",
    Change.GONE: "bold red",
    Change.BETTER: "green",
    Change.NEW: "cyan",
    Change.CHANGED: "yellow",
}


def comparison(
    one: KernelChecks, other: KernelChecks, found: Sequence[Difference]
) -> RenderableType:
    """What differs between two kernels; then how many checks, and by which plans."""
    names = {*by_workload(one.checks), *by_workload(other.checks)}
    both = printable(f"{one.kernel} and {other.kernel}")
    number = f"{len(found):,} of {len(names):,}" if found else f"none of {len(names):,}"
    lines = [Text(f"{both} differ in {number} checks")]
    for side in (one, other):
        lines.append(Text(printable(f"{side.kernel}: kernel {side.release}, {plans_words(side)}")))
    return Group(*_listing(found), *lines)


def changes(since: Since, file: str) -> RenderableType:
    """What changed on one kernel since the results in a file."""
    now, before = since.kernel, since.before
    if before.kernel == now.kernel:
        against = f"since {file}, {now.kernel}"
    else:
        against = f"{now.kernel} is new in {file}; since {before.kernel} there"
    counted = Counter(each.change for each in since.differences)
    words = ", ".join(f"{counted[one]:,} {one.value}" for one in Change if counted[one])
    number = len(by_workload(now.checks))
    line = Text(printable(f"{against}: {words or 'no change'}, of {number:,} checks"))
    return Group(*_listing(since.differences), line)


def disagreement(found: Sequence[Disagreement]) -> RenderableType:
    """What several plans see differently."""
    grid = _grid(len(PLANS_DIFFER))
    for each in found:
        words = Text(printable(f"{each.name}: {each.words}"))
        grid.add_row(Text(PLANS_DIFFER, style="bold red"), words)
    return grid


def objects(
    found: Iterable[Difference], kernel: str, between: tuple[str, str]
) -> Iterator[dict[str, Any]]:
    """For JSON: an object for each difference."""
    for each in found:
        yield _object(each.change.value, each, kernel, between, each.worse)


def plan_objects(one: KernelChecks) -> Iterator[dict[str, Any]]:
    """For JSON: an object for each check that the plans do not see alike."""
    for each in disagreements(one.checks):
        yield _object(PLANS_DIFFER, each, one.kernel, each.plans, True)


def _object(
    change: str,
    each: Difference | Disagreement,
    kernel: str,
    between: tuple[str, ...],
    worse: bool,
) -> dict[str, Any]:
    return {
        "change": change,
        "group": each.group,
        "name": each.name,
        "words": each.words,
        "worse": worse,
        "kernel": kernel,
        "between": between,
    }


def _listing(found: Sequence[Difference]) -> Iterator[RenderableType]:
    for group in dict.fromkeys(each.group for each in found):
        yield Text(printable(title(group)), style="bold")
        grid = _grid(9)
        for each in found:
            if each.group == group:
                words = Text(printable(f"{each.name}: {each.words}"))
                grid.add_row(Text(each.change.value, style=_STYLES[each.change]), words)
        yield grid


def _grid(width: int) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=width, justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid
