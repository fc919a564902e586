"""Checks as text, matrix, JUnit XML and HTML: 80 columns, and hostile words only as words."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from made_checks import HOSTILE, check, count
from rich.console import RenderableType

from cowtrace import __version__
from cowtrace.terminal import plain
from cowtrace.verify import change_report, html_page
from cowtrace.verify import text_report as report
from cowtrace.verify.agreement import disagreements
from cowtrace.verify.baseline import since
from cowtrace.verify.check import Check, Verdict, from_dict
from cowtrace.verify.differences import differences
from cowtrace.verify.junit import junit
from cowtrace.verify.matrix import KernelChecks, matrix, remarks, verdict_word
from cowtrace.workloads.outcome import Evidence

FAILING = check("C2", Verdict.FAILS, name="whole-page", why="child copied: 23 expected, 22 traced")
UNSEEN = check("KSM", Verdict.UNSEEN, name="ksm-write", why="kernel built without CONFIG_KSM")
FOUND = check("C6", name="fork-both-write", findings=("copied once more: 23 of 23",))
SHOWN = "x\\x1b[31m<b>&\"]]>\\u202e\\x00'"
ODD = check(
    HOSTILE,
    Verdict.FAILS,
    name=HOSTILE,
    claim=HOSTILE,
    why=HOSTILE,
    findings=(HOSTILE,),
    kernel=HOSTILE,
    evidence=(Evidence(HOSTILE, HOSTILE, HOSTILE, HOSTILE, False),),
)


def rendered(*views: RenderableType) -> str:
    stream = io.StringIO()
    for view in views:
        plain.write(stream, view)
    return stream.getvalue()


def kernels(*checks: Check, names: tuple[str, ...] = ("6.12",)) -> tuple[KernelChecks, ...]:
    return tuple(KernelChecks(name, checks, (f"{name}: exactly that one",)) for name in names)


@pytest.mark.parametrize("one", [check(), FAILING, UNSEEN, FOUND, ODD])
def test_json_and_back(one: Check) -> None:
    assert from_dict({**json.loads(json.dumps(one.as_dict())), "vm": "6.12"}) == one


def test_an_entry_says_the_verdict_and_the_claim() -> None:
    assert rendered(report.entry(check(), verbose=False)) == (
        "    holds  fork-read-only: fork copies no data\n"
    )
    assert "CONFIG_KSM" in rendered(report.entry(UNSEEN, verbose=False))
    assert "copied once more" in rendered(report.entry(FOUND, verbose=False))


def test_an_entry_that_fails_says_all_of_it() -> None:
    assert rendered(report.entry(FAILING, verbose=False)) == (
        "    FAILS  whole-page: fork copies no data\n"
        "     plan  kprobe\n"
        "      did  both sides only read (23 pages)\n"
        " expected  parent: no copy-on-write\n"
        "   traced  parent: no copy-on-write\n"
        "  pagemap  parent: copied 0, as expected\n"
        "      why  child copied: 23 expected, 22 traced\n"
    )


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Evidence("pagemap", "child: copied", 23, 22, False), "child: copied 22, but expected 23"),
        (Evidence("pagemap", "frames are hidden", None, None, None), "frames are hidden"),
        (Evidence("taskstats", "wpcopy", 23, None, None), "wpcopy: cannot be read here"),
        (Evidence("smaps", "KernelPageSize", None, "2048 kB", None), "KernelPageSize 2048 kB"),
    ],
)
def test_evidence_in_words(one: Evidence, words: str) -> None:
    assert report.evidence_words(one) == words


def test_alike_evidence_is_said_once() -> None:
    same = Evidence("data", "child: read back", "as written", "as written", True)
    sixteen = check(evidence=(same,) * 16)
    assert ("data", "16 x child: read back as written, as expected") in report.details(sixteen)


def test_summary_counts_verdicts() -> None:
    words = report.summary([check(), check(), FAILING, UNSEEN]).plain
    assert words.startswith("2 hold, 1 does not hold, 1 cannot be seen here\nplan kprobe, kernel")


@pytest.mark.parametrize(
    ("checks", "word"),
    [
        ((), "-"),
        ((check(), check()), "holds"),
        ((check(), FAILING, UNSEEN), "FAILS"),
        ((UNSEEN, UNSEEN), "unseen"),
        ((check(), UNSEEN), "partly"),
    ],
)
def test_one_word_for_a_group(checks: tuple[Check, ...], word: str) -> None:
    assert verdict_word(checks)[0] == word


FOUR = ("5.10", "6.1", "6.12", "7.2")


def test_the_matrix_has_claims_down_and_kernels_across() -> None:
    text = rendered(matrix(kernels(check(), FAILING, UNSEEN, FOUND, names=FOUR)))
    lines = text.splitlines()
    assert lines[0].split() == ["CLAIM", "OR", "PATH", *FOUR]
    assert lines[1].startswith("C1 fork copies no data ")
    assert lines[1].split()[-4:] == ["holds"] * 4
    assert lines[2].split()[-4:] == ["FAILS"] * 4
    assert lines[3].split() == ["KSM", *["unseen"] * 4]
    assert max(map(len, lines)) <= 80
    below = text.partition("\n\n")[2]
    assert "C2 on every kernel: whole-page does not hold: child copied: 23" in below
    assert below.count("copied once more") == 1
    assert [line for line in lines if "exactly" in line] == [
        f"{name}: exactly that one" for name in FOUR
    ]


def test_kernels_that_differ_are_named() -> None:
    old, new = kernels(FOUND, names=("5.10",)), kernels(check("C6"), names=("6.12",))
    (remark,) = remarks((*old, *new))
    assert (remark.group, remark.kernels) == ("C6", ("5.10",))
    assert "C6 on 5.10: copied once more" in rendered(matrix((*old, *new)))
    shown = rendered(matrix((*old, *kernels(FAILING, names=("6.12",))))).splitlines()
    assert shown[1].split()[-2:] == ["holds", "-"]


def test_a_long_name_stands_on_several_lines() -> None:
    shown = rendered(matrix(kernels(check(), check(), names=("6.12-arm64", "6.12-arm64-16k"))))
    heads = [line.split() for line in shown.splitlines()[:3]]
    assert heads == [["6.12-"], ["6.12-", "arm64-"], ["CLAIM", "OR", "PATH", "arm64", "16k"]]


@pytest.mark.parametrize("number", [1, 2, 4, 6])
def test_the_matrix_fits_80_columns(number: int) -> None:
    names = tuple(f"{each}.{'9' * 20}" for each in range(number))
    long = check("a path with a name that is much longer than a line can be" * 2)
    text = rendered(matrix(kernels(check(), long, ODD, names=names)))
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_hostile_reaches_the_terminal() -> None:
    text = rendered(
        report.heading(ODD.group),
        report.entry(ODD, verbose=True),
        report.summary([ODD]),
        matrix(kernels(ODD, names=(HOSTILE,))),
    )
    assert not set(text) & {"\x1b", "\x00", "\u202e"}
    assert "x\\x1b[31m<b>" in text
    assert max(map(len, text.splitlines())) <= 80


def test_junit_is_xml_with_every_verdict() -> None:
    unseen = replace(UNSEEN, name="ksm-zero-page")
    root = ET.fromstring(junit(kernels(check(), FAILING, UNSEEN, unseen, FOUND)))
    (suite,) = root.iter("testsuite")
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped", "errors")} == {
        "tests": "5",
        "failures": "1",
        "skipped": "2",
        "errors": "0",
    }
    assert suite.get("time") == "1.250"
    (failure,) = root.iter("failure")
    assert failure.get("message") == "child copied: 23 expected, 22 traced"
    assert failure.text  # what GitLab shows
    assert "pagemap: parent: copied 0, as expected" in failure.text
    skipped = next(root.iter("skipped"))
    assert skipped.get("message") == "kernel built without CONFIG_KSM"
    assert next(root.iter("testcase")).get("classname") == "6.12.C1 fork copies no data"
    assert [(one.get("name"), one.get("value")) for one in root.iter("property")] == [
        ("cowtrace", __version__),
        ("kernel", "6.12.43+deb13-cloud-amd64"),
        ("plan", "kprobe"),
        ("version", "6.12: exactly that one"),
    ]
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "time")} == {
        "tests": "5",
        "failures": "1",
        "errors": "0",
        "time": "1.250",
    }
    assert "finding: copied once more: 23 of 23" in "".join(root.itertext())


def test_junit_with_hostile_words_is_xml() -> None:
    root = ET.fromstring(junit(kernels(ODD, names=(HOSTILE,))))
    (case,) = root.iter("testcase")
    assert case.get("name") == f"{SHOWN}: {SHOWN}"


class Page(HTMLParser):
    """Collects the tags, and the text outside of style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.words = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [f"{name}={value}" for name, value in attrs]
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words += data

    def parse(self, text: str) -> Page:
        self.feed(text)
        self.close()
        assert self._open == []
        return self


def test_the_page_needs_no_network_and_holds_everything() -> None:
    text = html_page.page(kernels(check(), FAILING, UNSEEN, FOUND, names=FOUR))
    parsed = Page().parse(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "b"} & set(parsed.tags)
    assert not [a for a in parsed.attributes if a.startswith(("src=", "href="))]
    assert "url(" not in text
    assert "//" not in text
    assert parsed.tags.count("details") == 16
    for words in ("does not hold", "cannot be seen here", "copied once more", "exactly that one"):
        assert words in parsed.words


def test_the_page_with_hostile_words_shows_them() -> None:
    parsed = Page().parse(html_page.page(kernels(ODD, names=(HOSTILE,))))
    assert "b" not in parsed.tags
    assert SHOWN in parsed.words
    assert not set(parsed.words) & {"\x1b", "\x00", "\u202e"}


COPIES = check("C4", name="both", counts=(count(),))
PLANS = tuple(replace(COPIES, plan=plan) for plan in ("fentry", "kprobe"))
BLIND = replace(
    COPIES,
    plan="tracepoint",
    verdict=Verdict.UNSEEN,
    why="by the tracepoint plan: no exception is raised",
    blind=True,
)
DIFFERS = replace(COPIES, plan="tracepoint", counts=(count("reused"),))


def test_the_matrix_says_by_which_plans() -> None:
    old, new = kernels(check(), names=("5.10",)), kernels(*PLANS, BLIND, names=("6.12",))
    text = rendered(matrix((*old, *new)))
    assert "plan kprobe on 5.10\n" in text
    assert "plans fentry, kprobe, tracepoint (cannot see 1 check) agree on 6.12\n" in text
    assert text.splitlines()[2].split()[-2:] == ["-", "holds"]
    assert "no exception is raised" not in text  # another plan sees it
    assert "plan kprobe on every kernel\n" in rendered(matrix(kernels(check(), names=FOUR)))


def test_what_only_some_plans_found_is_followed_by_their_names() -> None:
    alike = [replace(plan, findings=("copied 23",)) for plan in PLANS]
    other = replace(PLANS[0], plan="tracepoint", findings=("copied 22",))
    assert [each.words for each in remarks(kernels(*alike, BLIND))] == ["copied 23"]
    assert [each.words for each in remarks(kernels(*alike, other))] == [
        "copied 23 (plan fentry, kprobe)", "copied 22 (plan tracepoint)"
    ]  # fmt: skip


def test_a_plan_whose_trace_lost_faults_does_not_differ() -> None:
    short = replace(
        PLANS[0],
        verdict=Verdict.UNSEEN,
        why="the trace lost 8 faults",
        counts=(count(traced=22, pagemap=23),),
    )
    made = kernels(short, PLANS[1])
    assert disagreements(made[0].checks) == ()
    assert verdict_word(made[0].checks) == ("holds", Verdict.HOLDS)
    assert [each.words for each in remarks(made)] == [
        "both cannot be seen: the trace lost 8 faults (plan fentry)"
    ]


def test_plans_that_differ_are_a_failure_in_each_view() -> None:
    made = kernels(*PLANS, DIFFERS)
    text = rendered(matrix(made))
    assert text.splitlines()[1].split()[-1] == "differ"
    assert "plans fentry, kprobe, tracepoint differ on 6.12\n" in text
    words = "child: fentry copies 23 of 23 pages, tracepoint re-marks them"
    assert f"C4 on 6.12: both, the plans differ: {words}" in text.replace("\n", " ")
    (failure,) = ET.fromstring(junit(made)).iter("failure")
    assert (failure.get("type"), failure.text) == ("plans differ", words)
    assert words in Page().parse(html_page.page(made)).words
    assert words in rendered(change_report.disagreement(disagreements(made[0].checks))).replace(
        "\n              ", " "
    )
    (row,) = change_report.plan_objects(made[0])
    assert (row["change"], row["words"], row["worse"]) == ("plans differ", words, True)


def test_junit_names_no_case_twice() -> None:
    (suite,) = ET.fromstring(junit(kernels(*PLANS, BLIND, check()))).iter("testsuite")
    cases = [(case.get("classname"), case.get("name")) for case in suite.iter("testcase")]
    assert len(cases) == len(set(cases)) == int(suite.get("tests", "0")) == 5
    assert suite.get("failures") == "0"
    assert (cases[0][1], cases[3][1]) == (
        "both by fentry: fork copies no data", "both: plans agree"
    )  # fmt: skip


def test_junit_of_a_kernel_that_stopped_has_an_error() -> None:
    stopped = KernelChecks("6.12", (check(),), (), error=HOSTILE)
    (suite,) = ET.fromstring(junit([stopped])).iter("testsuite")
    assert (suite.get("tests"), suite.get("errors")) == ("2", "1")
    (error,) = suite.iter("error")
    assert error.get("message") == SHOWN


def test_two_kernels_compared_in_80_columns() -> None:
    one = KernelChecks("6.1", (check(), COPIES, FOUND), ())
    other = KernelChecks("7.2", (check(), replace(DIFFERS, plan="kprobe"), UNSEEN), ())
    found = differences(one.checks, other.checks, ("6.1", "7.2"))
    assert rendered(change_report.comparison(one, other, found)) == (
        "C4 either side's write faults\n"
        "  changed  both: child: 6.1 copies 23 of 23 pages, 7.2 re-marks them\n"
        "C6 the last writer's page is only re-marked\n"
        "     gone  fork-both-write: only 6.1 has it: holds\n"
        "KSM\n"
        "      new  ksm-write: only 7.2 has it: cannot be seen: kernel built without\n"
        "           CONFIG_KSM\n"
        "6.1 and 7.2 differ in 3 of 4 checks\n"
        "6.1: kernel 6.12.43+deb13-cloud-amd64, plan kprobe\n"
        "7.2: kernel 6.12.43+deb13-cloud-amd64, plan kprobe\n"
    )
    same = rendered(change_report.comparison(one, one, ()))
    assert same.startswith("6.1 and 6.1 differ in none of 3 checks\n")


def test_what_changed_since_a_baseline() -> None:
    before = KernelChecks("7.2", (check(), COPIES), ())
    (same,) = since([before], [before])
    assert rendered(change_report.changes(same, "a.json")) == (
        "since a.json, 7.2: no change, of 2 checks\n"
    )
    now = KernelChecks("7.3", (check(verdict=Verdict.FAILS), replace(DIFFERS, plan="kprobe")), ())
    (new,) = since([before], [now])
    text = rendered(change_report.changes(new, "a.json"))
    assert text.endswith("7.3 is new in a.json; since 7.2 there: 1 worse, 1 changed, of 2 checks\n")
    assert "    worse  fork-read-only: 7.2 holds, 7.3 does not hold: the reason\n" in text
    assert "worse: C1 fork copies no data" in Page().parse(
        html_page.page([now], changes={"7.3 since 7.2": new.differences})
    ).words  # fmt: skip


def test_nothing_hostile_in_differences_reaches_the_terminal() -> None:
    odd = KernelChecks(HOSTILE, (ODD,), ())
    other = KernelChecks(f"{HOSTILE}2", (replace(ODD, verdict=Verdict.HOLDS, why=HOSTILE),), ())
    found = differences(odd.checks, other.checks, (HOSTILE, f"{HOSTILE}2"))
    (changed,) = since([odd], [other])
    text = rendered(
        change_report.comparison(odd, other, found), change_report.changes(changed, HOSTILE)
    )
    assert found
    assert changed.differences
    assert not set(text) & {"\x1b", "\x00", "\u202e"}
    assert max(map(len, text.splitlines())) <= 80
