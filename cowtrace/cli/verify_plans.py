"""`cowtrace verify --plans`: run each check under several probe plans; compare what they see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO, TypeVar

import click

from cowtrace.cli.options import Lines, notice, usage_error
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.plan import PLAN_NAMES
from cowtrace.terminal.screen import show
from cowtrace.verify import change_report, matrix
from cowtrace.verify.agreement import disagreements

_ALL = "all"
_Made = TypeVar("_Made")

plans_option = click.option(
    "--plans", metavar="PLANS",
    help="Run each check under these probe plans and compare: all, or fentry,tracepoint.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plans:
    """The probe plans to run under, one after the other."""

    names: tuple[str, ...]  # or auto alone
    optional: bool = False  # leave out those that cannot run here
    arguments: tuple[str, ...] = ()  # of `cowtrace verify` in the VM, for the same

    def each(self, run: Callable[[str], _Made]) -> Iterator[_Made]:
        """Run it with each plan. Raises CowtraceError if one, or each optional one, cannot run."""
        made, refused = 0, []
        for name in self.names:
            try:
                found = run(name)
            except CowtraceError as error:
                if not self.optional or error.exit_code != EXIT_NO_PLAN:
                    raise
                notice(str(error))
                refused.append(error)
            else:
                made += 1
                yield found
        if not made:
            raise refused[0]


def plans_of(plans: str | None, attach: str) -> Plans:
    """What --plans and --attach choose. Raises UsageError for an unknown name, or for both."""
    if plans is None:
        return Plans((attach,), arguments=("--attach", attach))
    if attach != "auto":
        raise usage_error("--plans and --attach cannot be combined", "give one of them")
    names = PLAN_NAMES if plans == _ALL else tuple(dict.fromkeys(plans.split(",")))
    for name in names:
        if name not in PLAN_NAMES:
            known = ", ".join(PLAN_NAMES)
            raise usage_error(f"--plans: there is no plan {name!r}", f"known: {known}; or {_ALL}")
    return Plans(tuple(names), plans == _ALL, ("--plans", plans))


def differ(made: Sequence[matrix.KernelChecks], lines: Lines | None, stream: TextIO | None) -> bool:
    """Whether plans differ on some kernel. Show where, or write an object for each check."""
    found = False
    for one in made:
        differing = disagreements(one.checks)
        found = found or bool(differing)
        if lines:
            for row in change_report.plan_objects(one):
                lines(row)
        elif differing:
            show(change_report.disagreement(differing), stream)
    return found
