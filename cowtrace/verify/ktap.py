"""Write checks as KTAP, version 1: kernels, in them claims and paths, in these the checks.

The format: Documentation/dev-tools/ktap.rst of the kernel. Where several plans ran, a check is a
group, too: a test for each plan, and one that they agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cowtrace.text import printable
from cowtrace.verify.agreement import AGREE, disagreements
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.differences import by_workload
from cowtrace.verify.groups import title
from cowtrace.verify.matrix import COMPLETE, KernelChecks, group_names
from cowtrace.verify.text_report import details


@dataclass(frozen=True, slots=True)
class _Test:
    name: str
    ok: bool = True
    directive: str = ""  # SKIP reason, ERROR reason
    notes: tuple[str, ...] = ()  # diagnostic lines
    tests: tuple[_Test, ...] = field(default=())


def ktap(kernels: Iterable[KernelChecks]) -> str:
    """The document. What cannot be seen is skipped, with the reason."""
    return "".join(f"{line}\n" for line in _lines([_kernel(one) for one in kernels]))


def _kernel(one: KernelChecks) -> _Test:
    tests = [
        _of(title(group), [_check(those) for those in by_workload(one.group(group)).values()])
        for group in group_names([one])
    ]
    if one.error:
        tests.append(_Test(COMPLETE, False, f"ERROR {one.error}"))
    release = f"kernel: {one.release}"
    return _of(one.kernel, tests, (release, f"plan: {', '.join(one.plans)}", *one.versions))


def _check(checks: Sequence[Check]) -> _Test:
    """One workload, by one plan or by several."""
    if len(checks) == 1:
        return _result(checks[0], checks[0].name)
    tests = [_result(check, check.plan) for check in checks]
    differing = tuple(each.words for each in disagreements(checks))
    tests.append(_Test(AGREE, not differing, notes=differing))
    return _of(checks[0].name, tests)


def _of(name: str, tests: Sequence[_Test], notes: tuple[str, ...] = ()) -> _Test:
    """A group: it fails if one of its tests does, and is skipped if all are."""
    seen = [test for test in tests if test.name != AGREE]
    skipped = bool(seen) and all(test.directive.startswith("SKIP") for test in seen)
    ok = all(test.ok for test in tests)
    return _Test(name, ok, "SKIP all of it" if skipped and ok else "", notes, tuple(tests))


def _result(check: Check, name: str) -> _Test:
    failed = check.verdict is Verdict.FAILS
    all_words = details(check)
    notes = tuple(
        f"{what}: {words}" for what, words in all_words if failed or what in ("plan", "finding")
    )
    skip = f"SKIP {check.why}" if check.verdict is Verdict.UNSEEN else ""
    return _Test(name, not failed, skip, notes)


def _lines(tests: Sequence[_Test], name: str = "", depth: int = 0) -> Iterator[str]:
    indent = "  " * depth
    yield f"{indent}KTAP version 1"
    if name:
        yield f"{indent}# Subtest: {name}"
    yield f"{indent}1..{len(tests)}"
    for number, test in enumerate(tests, 1):
        shown = _name(test.name)
        if test.tests:
            yield from _lines(test.tests, shown, depth + 1)
        for note in test.notes:
            yield f"{indent}# {printable(note)}"
        result = "ok" if test.ok else "not ok"
        directive = f" # {printable(test.directive)}" if test.directive else ""
        yield f"{indent}{result} {number} {shown}{directive}"


def _name(raw: str) -> str:
    """A description has no `#`."""
    return printable(raw).replace("#", "\\x23")
