"""KTAP of checks, read by a parser made from the specification, and by the kernel's own."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from made_checks import HOSTILE, check, count

from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.ktap import ktap
from cowtrace.verify.matrix import KernelChecks

KERNELS_OWN = Path(__file__).parents[2] / "build" / "kunit"  # made by `make selftests`
FAILING = check("C2", Verdict.FAILS, name="whole-page", why="child copied: 23 expected, 22 traced")
UNSEEN = check("KSM", Verdict.UNSEEN, name="ksm-write", why="kernel built without CONFIG_KSM")
FOUND = check("C6", name="fork-both-write", findings=("copied once more: 23 of 23",))
ODD = check(HOSTILE + "#\n", Verdict.FAILS, name=HOSTILE + " # SKIP\nok 1 x", why=HOSTILE)
RESULT = re.compile(r"(ok|not ok) (\d+) ([^#]*?)(?: # (SKIP|ERROR)(?: (.*))?)?")


@dataclass
class Test:
    __test__ = False

    name: str = ""
    result: str = ""
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)

    def at(self, *names: str) -> Test:
        for name in names:
            (self,) = [each for each in self.tests if each.name == name]
        return self


def parse(text: str) -> Test:
    """The tests of a whole document. Fails on each line that the specification does not have."""
    lines = text.splitlines()
    found = Test(tests=_level(lines, 0))
    assert lines == []
    return found


def _level(lines: list[str], depth: int) -> list[Test]:
    indent = "  " * depth
    assert lines.pop(0) == f"{indent}KTAP version 1"
    if lines[0].startswith(f"{indent}# Subtest: "):
        lines.pop(0)
    plan = re.fullmatch(rf"{indent}1\.\.(\d+)", lines.pop(0))
    assert plan
    tests: list[Test] = []
    test = Test()
    while len(tests) < int(plan[1]):
        if lines[0].startswith(f"{indent}  "):
            assert not test.tests
            test.tests = _level(lines, depth + 1)
            continue
        line = lines.pop(0).removeprefix(indent)
        if line.startswith("# "):
            test.notes.append(line[2:])
            continue
        result = RESULT.fullmatch(line)
        assert result, line
        assert int(result[2]) == len(tests) + 1
        test.name, test.result, test.reason = result[3], result[4] or result[1], result[5]
        failed = [each for each in test.tests if each.result in ("not ok", "ERROR")]
        assert (result[1] == "not ok") == (bool(failed) if test.tests else test.result != "SKIP"
                                           and result[1] == "not ok")  # fmt: skip
        tests.append(test)
        test = Test()
    return tests


def kernel(name: str, *checks: Check, error: str = "") -> KernelChecks:
    return KernelChecks(name, checks, (f"{name}: exactly",), error)


def test_kernels_claims_and_checks_are_nested() -> None:
    text = ktap([kernel("6.12", check(), FAILING, UNSEEN, FOUND), kernel("7.2", check())])
    found = parse(text)
    assert [each.name for each in found.tests] == ["6.12", "7.2"]
    old, new = found.tests
    assert (old.result, new.result) == ("not ok", "ok")
    assert old.notes == ["kernel: 6.12.43+deb13-cloud-amd64", "plan: kprobe", "6.12: exactly"]
    assert found.at("6.12", "C1 fork copies no data", "fork-read-only").result == "ok"
    failed = found.at("6.12", "C2 a write copies one whole page", "whole-page")
    assert failed.result == "not ok"
    assert "why: child copied: 23 expected, 22 traced" in failed.notes
    assert "pagemap: parent: copied 0, as expected" in failed.notes
    skipped = found.at("6.12", "KSM", "ksm-write")
    assert (skipped.result, skipped.reason) == ("SKIP", "kernel built without CONFIG_KSM")
    assert found.at("6.12", "KSM").result == "SKIP"
    last = found.at("6.12", "C6 the last writer's page is only re-marked", "fork-both-write")
    assert last.notes == ["plan: kprobe", "finding: copied once more: 23 of 23"]


def test_its_first_lines_are_those_of_the_specification() -> None:
    lines = ktap([kernel("6.12", check())]).splitlines()
    assert lines == [
        "KTAP version 1",
        "1..1",
        "  KTAP version 1",
        "  # Subtest: 6.12",
        "  1..1",
        "    KTAP version 1",
        "    # Subtest: C1 fork copies no data",
        "    1..1",
        "    # plan: kprobe",
        "    ok 1 fork-read-only",
        "  ok 1 C1 fork copies no data",
        "# kernel: 6.12.43+deb13-cloud-amd64",
        "# plan: kprobe",
        "# 6.12: exactly",
        "ok 1 6.12",
    ]


def test_several_plans_are_tests_of_a_check() -> None:
    blind = check(verdict=Verdict.UNSEEN, plan="tracepoint", blind=True)
    plans = [check(plan=plan, counts=(count(),)) for plan in ("fentry", "kprobe")]
    place = ("6.12", "C1 fork copies no data", "fork-read-only")
    found = parse(ktap([kernel("6.12", *plans, blind)])).at(*place)
    assert [(each.name, each.result) for each in found.tests] == [
        ("fentry", "ok"), ("kprobe", "ok"), ("tracepoint", "SKIP"), ("plans agree", "ok")
    ]  # fmt: skip
    assert found.result == "ok"
    other = check(plan="tracepoint", counts=(count("reused"),))
    found = parse(ktap([kernel("6.12", *plans, other)])).at(*place)
    assert found.result == "not ok"
    assert found.at("plans agree").notes == [
        "child: fentry copies 23 of 23 pages, tracepoint re-marks them"
    ]


def test_a_kernel_that_stopped_is_not_ok() -> None:
    found = parse(ktap([kernel("6.12", check(), error="it stopped")]))
    ended = found.at("6.12", "all checks were made")
    assert (ended.result, ended.reason) == ("ERROR", "it stopped")
    assert found.at("6.12").result == "not ok"
    assert parse(ktap([kernel("6.12", error="no\nVM")])).at("6.12").result == "not ok"


def test_hostile_words_make_no_line_of_their_own() -> None:
    found = parse(ktap([kernel(HOSTILE + "#", ODD)]))
    ((group,),) = [each.tests for each in found.tests]
    (odd,) = group.tests
    assert odd.result == "not ok"
    assert "\\x0a" in odd.name
    assert "#" not in odd.name
    assert parse(ktap([])).tests == []


def test_the_kernels_own_parser_reads_it() -> None:
    """tools/testing/kunit/kunit_parser.py of the kernel's source."""
    if not (KERNELS_OWN / "kunit_parser.py").is_file():
        pytest.skip("the kernel's parser is not here: make selftests gets it")
    sys.path.insert(0, str(KERNELS_OWN))
    try:
        import kunit_parser  # type: ignore[import-not-found]
        import kunit_printer  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(KERNELS_OWN))
    plans = [check("C4", name="both", plan=plan) for plan in ("fentry", "kprobe")]
    checks = (check(), FAILING, UNSEEN, FOUND, ODD, *plans)
    text = ktap([kernel("6.12", *checks), kernel("7.2", check())])
    read = kunit_parser.parse_run_tests
    printer = [kunit_printer.stdout][: len(inspect.signature(read).parameters) - 1]  # since 6.15
    whole = read(text.splitlines(), *printer)
    assert [each.name for each in whole.subtests] == ["6.12", "7.2"]
    counts = whole.counts
    assert (counts.passed, counts.failed, counts.skipped) == (6, 2, 1)
    assert (counts.errors, counts.crashed) == (0, 0)

    def names(test: object) -> object:
        below = test.subtests  # type: ignore[attr-defined]
        return test.name, [names(each) for each in below]  # type: ignore[attr-defined]

    def ours(test: Test) -> object:
        return test.name, [ours(each) for each in test.tests]

    assert [names(each) for each in whole.subtests] == [ours(each) for each in parse(text).tests]
