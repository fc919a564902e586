"""Compare what several probe plans saw of the same workloads on one kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.count_words import Side, count_words
from cowtrace.verify.differences import by_workload, verdict_words

AGREE = "plans agree"  # the name of the test that they do
PLANS_DIFFER = "plans differ"  # the type of its failure


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A check that plans do not see alike, although each of them can see it."""

    group: str
    name: str  # of the workload
    plans: tuple[str, ...]
    words: str


def disagreements(checks: Iterable[Check]) -> tuple[Disagreement, ...]:
    """What the plans see differently.

    A plan that cannot see a path or a kind by its design says nothing about it, nor does a run
    for which the machine had no room, or whose trace knows that it lost faults; an upper bound is
    not compared.
    """
    found = []
    for (group, name), those in by_workload(checks).items():
        if words := "; ".join(_words([check for check in those if not check.silent])):
            plans = tuple(check.plan for check in those)
            found.append(Disagreement(group, name, plans, words))
    return tuple(found)


def merged(checks: Sequence[Check]) -> Verdict:
    """What follows for one workload from all plans: the worst that a plan which sees it says."""
    seeing = {check.verdict for check in checks if not check.silent}
    for verdict in (Verdict.FAILS, Verdict.UNSEEN, Verdict.HOLDS):
        if verdict in seeing:
            return verdict
    return Verdict.UNSEEN


def _words(checks: Sequence[Check]) -> Iterator[str]:
    if len({check.verdict for check in checks}) > 1:
        yield ", ".join(f"{check.plan} {verdict_words(check)}" for check in checks)
    for check in checks[1:]:
        yield from count_words(Side(checks[0].plan, checks[0]), Side(check.plan, check))
