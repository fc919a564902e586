"""Render the checks of several kernels as one table of claims, with the differences below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cowtrace.text import COLUMNS, fit, printable
from cowtrace.verify.agreement import disagreements, merged
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.differences import by_workload
from cowtrace.verify.groups import title
from cowtrace.verify.text_report import SHORT, STYLES

MISSING = "-"  # this kernel made no such check
PARTLY = "partly"  # what can be seen holds
DIFFER = "differ"  # the plans do not see the same
COMPLETE = "all checks were made"  # the name of the test that they were
_CELL = 8


@dataclass(frozen=True, slots=True)
class KernelChecks:
    """The checks of one kernel."""

    kernel: str  # the name that users type: 6.12
    checks: tuple[Check, ...]
    versions: tuple[str, ...]  # of the kernel and the userspace, a line each
    error: str = ""  # why it has not made all checks

    @property
    def release(self) -> str:
        """uname -r; its name where no check says it."""
        return self.checks[-1].kernel if self.checks else self.kernel

    @property
    def plans(self) -> tuple[str, ...]:
        """The probe plans by which its checks were seen, in the order in which they ran."""
        return tuple(dict.fromkeys(check.plan for check in self.checks))

    def group(self, name: str) -> tuple[Check, ...]:
        """The checks of a claim or path."""
        return tuple(check for check in self.checks if check.group == name)


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark on the table, and the kernels that it applies to."""

    group: str
    kernels: tuple[str, ...]
    words: str


def verdict_word(checks: Iterable[Check]) -> tuple[str, Verdict | None]:
    """One word for a group on one kernel, and the verdict that it stands for.

    Where several plans ran: the verdict of those that can see the check.
    """
    workloads = by_workload(checks).values()
    verdicts = {merged(those) for those in workloads}
    if any(disagreements(those) for those in workloads):
        return DIFFER, Verdict.FAILS
    if verdicts == {Verdict.HOLDS, Verdict.UNSEEN}:
        return PARTLY, Verdict.UNSEEN
    for verdict in (Verdict.FAILS, Verdict.UNSEEN, Verdict.HOLDS):
        if verdict in verdicts:
            return SHORT[verdict], verdict
    return MISSING, None


def group_names(kernels: Iterable[KernelChecks]) -> tuple[str, ...]:
    """Every group that some kernel has checks of, in their order."""
    return tuple(dict.fromkeys(check.group for one in kernels for check in one.checks))


def remarks(kernels: Sequence[KernelChecks]) -> tuple[Remark, ...]:
    """Failures, findings and reasons why a check is unseen; equal ones of several kernels once."""
    by_words: dict[tuple[str, str], list[str]] = {}
    for group in group_names(kernels):
        for one in kernels:
            for those in by_workload(one.group(group)).values():
                for words in _remarks(those):
                    named = by_words.setdefault((group, words), [])
                    if one.kernel not in named:
                        named.append(one.kernel)
    return tuple(Remark(group, tuple(named), words) for (group, words), named in by_words.items())


def matrix(kernels: Sequence[KernelChecks]) -> RenderableType:
    """The table, the remarks below it, and the versions."""
    parts: list[RenderableType] = [_table(kernels)]
    if noted := remarks(kernels):
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(overflow="fold")
        for one in noted:
            on = _on(one.kernels, kernels)
            grid.add_row(Text(printable(f"{one.group} on {on}: {one.words}")))
        parts += [Text(), grid]
    parts += [Text(), *(Text(printable(line)) for line in plan_lines(kernels))]
    if versions := dict.fromkeys(line for kernel in kernels for line in kernel.versions):
        parts += [Text(), *(Text(printable(line)) for line in versions)]
    return Group(*parts)


def plan_lines(kernels: Sequence[KernelChecks]) -> Iterator[str]:
    """By which plans the checks were seen: `plan fentry on 5.10, 6.1`; whether several agree."""
    by_words: dict[str, list[str]] = {}
    for one in kernels:
        agree = "differ" if disagreements(one.checks) else "agree"
        words = f"{plans_words(one)} {agree}" if len(one.plans) > 1 else plans_words(one)
        by_words.setdefault(words, []).append(one.kernel)
    for words, named in by_words.items():
        yield f"{words} on {_on(named, kernels)}"


def plans_words(one: KernelChecks) -> str:
    """`plans fentry, tracepoint (cannot see 12 checks)`."""
    blind = Counter(check.plan for check in one.checks if check.blind)
    words = [
        f"{plan} (cannot see {blind[plan]:,} check{'s' * (blind[plan] != 1)})"
        if blind[plan]
        else plan
        for plan in one.plans
    ]
    return f"plan{'s' * (len(words) > 1)} {', '.join(words) or MISSING}"


def _on(named: Sequence[str], kernels: Sequence[KernelChecks]) -> str:
    return "every kernel" if len(named) == len(kernels) > 1 else ", ".join(named)


def _table(kernels: Sequence[KernelChecks]) -> Table:
    room = max(24, COLUMNS - len(kernels) * (_CELL + 1))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("CLAIM OR PATH", width=room - 1, no_wrap=True)
    for one in kernels:
        table.add_column(Text(_heading(one.kernel)), width=_CELL, no_wrap=True)
    for group in group_names(kernels):
        cells = [verdict_word(one.group(group)) for one in kernels]
        table.add_row(
            Text(fit(printable(title(group)), room - 1)),
            *(Text(word, style=STYLES[verdict] if verdict else "dim") for word, verdict in cells),
        )
    return table


def _heading(kernel: str) -> str:
    """A kernel's name, a line for each of its parts: `6.12-`, `arm64-`, `16k`."""
    *parts, last = printable(kernel).split("-")
    return "\n".join(fit(part, _CELL) for part in (*(f"{part}-" for part in parts), last))


def _remarks(checks: Sequence[Check]) -> Iterator[str]:
    """Of one workload, by one plan or by several: of those that are not blind, if there are any.

    What some of several plans say is followed by their names.
    """
    seeing = [check for check in checks if not check.blind] or checks
    plans: dict[str, list[str]] = {}
    for check in seeing:
        for words in dict.fromkeys(_words(check)):
            plans.setdefault(words, []).append(check.plan)
    for words, by in plans.items():
        yield words if len(by) == len(seeing) else f"{words} (plan {', '.join(by)})"
    for each in disagreements(checks):
        yield f"{each.name}, the plans differ: {each.words}"


def _words(check: Check) -> Iterator[str]:
    if check.verdict is Verdict.FAILS:
        yield f"{check.name} does not hold: {check.why}"
    elif check.verdict is Verdict.UNSEEN:
        yield f"{check.name} cannot be seen: {check.why}"
    yield from check.findings
