"""Write checks as KTAP, each as it ends: kernels, in them claims and paths, in these the checks.

What is planned is written first, so that a reader of half a document sees what is missing. Where
several plans run, a kernel has a list for each plan, and one that says of each check whether they
agree.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from cowtrace.errors import CowtraceError
from cowtrace.text import printable
from cowtrace.verify.agreement import AGREE, disagreements
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.differences import by_workload
from cowtrace.verify.ktap_lines import SKIP, Tests
from cowtrace.verify.ktap_plan import Planned, leaves, planned_of
from cowtrace.verify.matrix import COMPLETE, KernelChecks
from cowtrace.verify.text_report import details

_NOT_MADE = f"{SKIP} not made"
_ALONE = f"{SKIP} fewer than two plans see it"


def ktap(kernels: Sequence[KernelChecks]) -> str:
    """The document of checks that were made before."""
    lines: list[str] = []
    report = Report(lines.append, len(kernels))
    for one in kernels:
        report.whole(one)
    return "".join(lines)


class Report:
    """A document that grows. What cannot be seen is skipped, with the reason."""

    def __init__(self, write: Callable[[str], object], kernels: int) -> None:
        """write: gets whole lines. kernels: how many there will be."""
        self._all = Tests(write, kernels)
        self._kernel: _Kernel | None = None  # whose checks are being made

    def begin(self, kernel: str, tests: Sequence[Planned]) -> None:
        """Begin a kernel, whose checks come in this order."""
        self._kernel = _Kernel(self._all, kernel, tests)

    def check(self, check: Check) -> None:
        """Write a check. Raises CowtraceError if it is not planned, or comes out of order."""
        assert self._kernel
        self._kernel.check(check)

    def end(self, one: KernelChecks) -> None:
        """End the kernel that was begun: skip the checks that it has not made."""
        assert self._kernel
        self._kernel.end(one)
        self._kernel = None

    def whole(self, one: KernelChecks) -> None:
        """Write a kernel whose checks were made before, in any order."""
        tests = planned_of(one)
        self.begin(one.kernel, tests)
        for leaf in leaves(tests):
            self.check(next(check for check in one.checks if leaf.has(check)))
        self.end(one)

    def absent(self, kernel: str, reason: str) -> None:
        """Write a kernel that was not begun."""
        self._all.test(kernel, ok=False, directive=f"ERROR {reason}")


class _Kernel:
    """The tests of one kernel, written up to its last check."""

    def __init__(self, parent: Tests, name: str, tests: Sequence[Planned]) -> None:
        self._checks = [*leaves(tests)]
        self._at = 0  # checks before this one are written, or were skipped
        self._workloads = tuple(dict.fromkeys(leaf.workload for leaf in self._checks))
        self._several = len({leaf.plan for leaf in self._checks}) > 1
        self._parent = parent
        self._all = parent.open(name, len(tests) + self._several + 1)
        self._next: Check | None = None  # to be written
        self._ended = False
        self._writing = self._write(tests, self._all)

    def check(self, check: Check) -> None:
        left = range(self._at, len(self._checks))
        at = next((each for each in left if self._checks[each].has(check)), None)
        if at is None:
            raise CowtraceError(
                f"{printable(check.name)} of {printable(check.group)} is no check that comes now",
                hint="report this, with the kernel that made it",
            )
        self._next, self._at = check, at + 1
        next(self._writing, None)

    def end(self, one: KernelChecks) -> None:
        self._ended = True
        next(self._writing, None)
        if self._several:
            self._agreement(one)
        stopped_in = [leaf.name for leaf in self._checks[self._at :][:1] if one.checks]
        self._all.test(
            COMPLETE,
            ok=not one.error,
            directive=f"ERROR {one.error}" if one.error else "",
            notes=[f"next: {name}" for name in stopped_in if one.error],
            of_checks=False,
        )
        notes = (f"kernel: {one.release}", f"plan: {', '.join(one.plans)}", *one.versions)
        self._parent.close(self._all, notes)

    def _write(self, tests: Sequence[Planned], into: Tests) -> Generator[None, None, None]:
        """Write the tests; yield where the next check is needed. Skip what it is not in."""
        for test in tests:
            if not self._next and not self._ended:
                yield
            if not self._next or not test.has(self._next):
                into.test(test.name, directive=_NOT_MADE)
            elif test.tests:
                inside = into.open(test.name, len(test.tests))
                yield from self._write(test.tests, inside)
                into.close(inside)
            else:
                _write_check(self._next, into)
                self._next = None

    def _agreement(self, one: KernelChecks) -> None:
        """A test for each check that several plans made: it fails if they do not see the same."""
        made = by_workload(one.checks)
        inside = self._all.open(AGREE, len(self._workloads))
        for workload in self._workloads:
            checks = made.get(workload, [])
            differing = [each.words for each in disagreements(checks)]
            several = sum(not check.silent for check in checks) > 1
            skip = "" if several else _ALONE if checks else _NOT_MADE
            inside.test(workload[1], ok=not differing, directive=skip, notes=differing)
        self._all.close(inside, of_checks=False)


def _write_check(check: Check, into: Tests) -> None:
    failed = check.verdict is Verdict.FAILS
    words = (each for each in details(check) if failed or each[0] in ("plan", "finding"))
    notes = [f"{name}: {what}" for name, what in words]
    skip = f"{SKIP} {check.why}" if check.verdict is Verdict.UNSEEN else ""
    into.test(check.name, ok=not failed, directive=skip, notes=notes)
