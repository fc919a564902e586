"""Plan the tests of a KTAP document: which checks a kernel is to make, in which lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cowtrace.verify.check import Check
from cowtrace.verify.differences import by_workload
from cowtrace.verify.groups import title
from cowtrace.verify.matrix import KernelChecks


@dataclass(frozen=True, slots=True)
class Planned:
    """One test: a check, or a list of tests."""

    name: str  # that the document shows
    tests: tuple[Planned, ...] = ()  # empty: a check
    workload: tuple[str, str] = ("", "")  # a check's group and name
    plan: str = ""  # a check's probe plan; empty: the only one, whichever it is

    def has(self, check: Check) -> bool:
        """Whether this is the check, or a list that has it."""
        if self.tests:
            return any(each.has(check) for each in self.tests)
        return self.workload == (check.group, check.name) and self.plan in ("", check.plan)


def planned(groups: Mapping[str, Sequence[str]], plans: Sequence[str]) -> tuple[Planned, ...]:
    """The tests of a kernel that makes these checks, by group, under each of these plans."""
    if len(plans) < 2:
        return _groups(groups, "")
    return tuple(Planned(plan, _groups(groups, plan)) for plan in plans)


def planned_of(one: KernelChecks) -> tuple[Planned, ...]:
    """The tests of checks that were made before."""
    if len(one.plans) < 2:
        return _groups(_by_group(one.checks), "")
    by_plan = {plan: [each for each in one.checks if each.plan == plan] for plan in one.plans}
    return tuple(Planned(plan, _groups(_by_group(of), plan)) for plan, of in by_plan.items())


def leaves(tests: Iterable[Planned]) -> Iterator[Planned]:
    """The checks among these tests, in order."""
    for each in tests:
        yield from leaves(each.tests) if each.tests else (each,)


def _by_group(checks: Iterable[Check]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group, name in by_workload(checks):
        found.setdefault(group, []).append(name)
    return found


def _groups(groups: Mapping[str, Sequence[str]], plan: str) -> tuple[Planned, ...]:
    return tuple(
        Planned(
            title(group),
            tuple(Planned(name, workload=(group, name), plan=plan) for name in names),
        )
        for group, names in groups.items()
    )
