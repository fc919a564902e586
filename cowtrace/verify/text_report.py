"""Render the checks of one kernel in 80 columns: a line each, details where one fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.text import printable
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.groups import title
from cowtrace.workloads.outcome import Evidence

STYLES = {Verdict.HOLDS: "green", Verdict.FAILS: "bold red", Verdict.UNSEEN: "yellow"}
_PLURALS = {Verdict.HOLDS: "hold", Verdict.FAILS: "do not hold"}
SHORT = {Verdict.HOLDS: "holds", Verdict.FAILS: "FAILS", Verdict.UNSEEN: "unseen"}


def heading(group: str) -> Text:
    """The line above the checks of a group."""
    return Text(printable(title(group)), style="bold")


def entry(check: Check, *, verbose: bool) -> RenderableType:
    """One check: its verdict and claim; the details if verbose or if it does not hold."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=9, justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    verdict = Text(SHORT[check.verdict], style=STYLES[check.verdict])
    grid.add_row(verdict, Text(printable(f"{check.name}: {check.claim}")))
    full = verbose or check.verdict is Verdict.FAILS
    for name, words in details(check) if full else _conclusions(check):
        style = "cyan" if name == "finding" else "dim"
        grid.add_row(Text(printable(name.rpartition("/")[2]), style=style), Text(printable(words)))
    return grid


def details(check: Check) -> Iterator[tuple[str, str]]:
    """A name and words for each: plan, done, expected, traced, oracles' evidence, why, findings."""
    yield "plan", check.plan
    yield "did", check.did
    if check.expected:
        yield "expected", check.expected
        yield "traced", check.observed
    for one, number in Counter(check.evidence).items():  # children that did the same: once
        yield one.oracle, f"{number} x {evidence_words(one)}" if number > 1 else evidence_words(one)
    yield from _conclusions(check)


def _conclusions(check: Check) -> Iterator[tuple[str, str]]:
    if check.why:
        yield "why", check.why
    for finding in check.findings:
        yield "finding", finding


def evidence_words(one: Evidence) -> str:
    """`child: copied 509, as expected`."""
    if one.observed is None:
        return one.what if one.expected is None else f"{one.what}: cannot be read here"
    if one.ok is None or one.expected is None:
        return f"{one.what} {one.observed}"
    agree = "as expected" if one.ok else f"but expected {one.expected}"
    return f"{one.what} {one.observed}, {agree}"


def summary(checks: Iterable[Check]) -> Text:
    """How many checks have which verdict, on which kernel, under which plan."""
    made = tuple(checks)
    text = Text()
    for verdict in Verdict:
        if number := sum(check.verdict is verdict for check in made):
            verb = _PLURALS.get(verdict, verdict.value) if number != 1 else verdict.value
            text.append(", " if text else "")
            text.append(f"{number:,} {verb}", style=STYLES[verdict])
    if made:
        seconds = sum(check.seconds for check in made)
        text.append(
            f"\nplan {made[0].plan}, kernel {printable(made[0].kernel)}, {seconds:.1f} s of checks"
        )
    return text
