"""KTAP of checks, read by a parser made from the specification, and by the kernel's own.

Whole, and up to the line at which a run was killed.
"""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from made_checks import HOSTILE, check, count

from cowtrace.errors import CowtraceError
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.ktap import Report, ktap
from cowtrace.verify.ktap_plan import planned
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
        "  1..2",
        "    KTAP version 1",
        "    # Subtest: C1 fork copies no data",
        "    1..1",
        "    # plan: kprobe",
        "    ok 1 fork-read-only",
        "  ok 1 C1 fork copies no data",
        "  ok 2 all checks were made",
        "# kernel: 6.12.43+deb13-cloud-amd64",
        "# plan: kprobe",
        "# 6.12: exactly",
        "ok 1 6.12",
    ]


def test_several_plans_are_lists_of_a_kernel() -> None:
    blind = check(verdict=Verdict.UNSEEN, plan="tracepoint", blind=True)
    plans = [check(plan=plan, counts=(count(),)) for plan in ("fentry", "kprobe")]
    place = ("C1 fork copies no data", "fork-read-only")
    found = parse(ktap([kernel("6.12", *plans, blind)])).at("6.12")
    names = ["fentry", "kprobe", "tracepoint", "plans agree", "all checks were made"]
    assert [each.name for each in found.tests] == names
    assert [each.result for each in found.tests] == ["ok", "ok", "SKIP", "ok", "ok"]
    assert found.at("fentry", *place).notes == ["plan: fentry"]
    assert found.at("plans agree", "fork-read-only").result == "ok"
    assert found.result == "ok"
    other = check(plan="tracepoint", counts=(count("reused"),))
    found = parse(ktap([kernel("6.12", *plans, other)])).at("6.12")
    assert found.result == "not ok"
    assert found.at("plans agree", "fork-read-only").notes == [
        "child: fentry copies 23 of 23 pages, tracepoint re-marks them"
    ]
    alone = parse(ktap([kernel("6.12", plans[0], blind)])).at("6.12", "plans agree")
    assert alone.result == alone.at("fork-read-only").result == "SKIP"


GROUPS = {"C1": ["fork-read-only"], "C4": ["both", "more"], "KSM": ["ksm-write"]}
FOUR = (check(), check("C4", name="both"), check("C4", name="more"), UNSEEN)


def grown(*checks: Check) -> tuple[list[str], Report]:
    """A document that has a kernel with these checks, and is not ended."""
    lines: list[str] = []
    report = Report(lines.append, 2)
    report.begin("6.12", planned(GROUPS, ("auto",)))
    for each in checks:
        report.check(each)
    return lines, report


def test_each_check_is_written_as_it_ends() -> None:
    assert "".join(grown()[0]).splitlines() == [
        "KTAP version 1", "1..2", "  KTAP version 1", "  # Subtest: 6.12", "  1..4"
    ]  # fmt: skip
    written = [grown(*FOUR[:number])[0] for number in range(5)]
    for fewer, more in itertools.pairwise(written):
        assert more[: len(fewer)] == fewer
    assert [lines[-1].strip() for lines in written[1:]] == [
        "ok 1 C1 fork copies no data",
        "ok 1 both",
        "ok 2 C4 either side's write faults",
        "ok 3 KSM # SKIP all of it",
    ]


def test_what_was_not_made_is_skipped_and_the_reason_is_said_once() -> None:
    lines, report = grown(*FOUR[:2])
    report.end(kernel("6.12", *FOUR[:2], error="it stopped"))
    report.absent("7.2", "it stopped")
    found = parse("".join(lines))
    old = found.at("6.12")
    assert [(each.name, each.result, each.reason) for each in old.tests] == [
        ("C1 fork copies no data", "ok", None),
        ("C4 either side's write faults", "ok", None),
        ("KSM", "SKIP", "not made"),
        ("all checks were made", "ERROR", "it stopped"),
    ]
    half = old.at("C4 either side's write faults")
    assert [each.result for each in half.tests] == ["ok", "SKIP"]
    assert old.at("all checks were made").notes == ["next: more"]
    assert (old.result, found.at("7.2").result) == ("not ok", "ERROR")


def test_checks_that_are_left_out_are_skipped() -> None:
    lines, report = grown(FOUR[2], FOUR[3])
    report.end(kernel("6.12", FOUR[2], FOUR[3]))
    report.absent("7.2", "no VM")
    found = parse("".join(lines)).at("6.12")
    assert [each.result for each in found.tests] == ["SKIP", "ok", "SKIP", "ok"]
    assert found.result == "ok"


@pytest.mark.parametrize("wrong", [check("C9"), check(), check("C1", name="both")])
def test_a_check_out_of_order_is_refused(wrong: Check) -> None:
    lines, report = grown(check())
    before = [*lines]
    with pytest.raises(CowtraceError, match="is no check that comes now"):
        report.check(wrong)
    assert lines == before


def test_a_plan_that_cannot_run_is_skipped_at_once() -> None:
    lines: list[str] = []
    report = Report(lines.append, 1)
    report.begin("6.12", planned({"C1": ["fork-read-only"]}, ("fentry", "kprobe", "tracepoint")))
    made = [check(plan=plan) for plan in ("kprobe", "tracepoint")]
    for each in made:
        report.check(each)
    assert lines[-1] == "  ok 3 tracepoint\n"
    report.end(kernel("6.12", *made))
    found = parse("".join(lines)).at("6.12")
    assert (found.tests[0].name, found.tests[0].reason) == ("fentry", "not made")
    assert [each.result for each in found.tests] == ["SKIP", "ok", "ok", "ok", "ok"]


def test_a_kernel_that_stopped_is_not_ok() -> None:
    found = parse(ktap([kernel("6.12", check(), error="it stopped")]))
    ended = found.at("6.12", "all checks were made")
    assert (ended.result, ended.reason) == ("ERROR", "it stopped")
    assert found.at("6.12").result == "not ok"
    assert parse(ktap([kernel("6.12", error="no\nVM")])).at("6.12").result == "not ok"


def test_hostile_words_make_no_line_of_their_own() -> None:
    found = parse(ktap([kernel(HOSTILE + "#", ODD)]))
    ((group, _),) = [each.tests for each in found.tests]
    (odd,) = group.tests
    assert odd.result == "not ok"
    assert "\\x0a" in odd.name
    assert "#" not in odd.name
    assert parse(ktap([])).tests == []


def kernels_own(text: str) -> Any:
    """What tools/testing/kunit/kunit_parser.py of the kernel's source reads."""
    if not (KERNELS_OWN / "kunit_parser.py").is_file():
        pytest.skip("the kernel's parser is not here: make selftests gets it")
    sys.path.insert(0, str(KERNELS_OWN))
    try:
        import kunit_parser  # type: ignore[import-not-found]
        import kunit_printer  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(KERNELS_OWN))
    read = kunit_parser.parse_run_tests
    printer = [kunit_printer.stdout][: len(inspect.signature(read).parameters) - 1]  # since 6.15
    return read(text.splitlines(), *printer)


def test_the_kernels_own_parser_reads_it() -> None:
    plans = [check("C4", name="both", plan=plan) for plan in ("fentry", "kprobe")]
    checks = (check(plan="fentry"), *plans)
    one = (check(), FAILING, UNSEEN, FOUND, ODD)
    text = ktap([kernel("6.12", *one), kernel("7.2", *checks)])
    whole = kernels_own(text)
    assert [each.name for each in whole.subtests] == ["6.12", "7.2"]
    counts = whole.counts
    # Passed: two of the first kernel, three of the second; that all were made, twice; that plans
    # agree, once, and once it is skipped.
    assert (counts.passed, counts.failed, counts.skipped) == (8, 2, 2)
    assert (counts.errors, counts.crashed) == (0, 0)

    def names(test: Any) -> object:
        return test.name, [names(each) for each in test.subtests]

    def ours(test: Test) -> object:
        return test.name, [ours(each) for each in test.tests]

    assert [names(each) for each in whole.subtests] == [ours(each) for each in parse(text).tests]


def test_the_kernels_own_parser_reads_what_a_killed_run_wrote() -> None:
    lines, _ = grown(FOUR[0], FOUR[1])
    half = kernels_own("".join(lines))
    (old,) = [each for each in half.subtests if each.name == "6.12"]
    c1, c4 = old.subtests[:2]
    assert [(each.name, each.counts.passed) for each in (c1, c4)] == [
        ("C1 fork copies no data", 1), ("C4 either side's write faults", 1)
    ]  # fmt: skip
    assert half.counts.errors > 0 or half.counts.crashed > 0
