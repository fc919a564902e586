"""`cowtrace report` and `cowtrace diff` over made-up recordings."""

from __future__ import annotations

import html
import json
import re
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_recordings import EVIL, make, write
from snapshots import PAGE, calls, detail

from cowtrace.analysis.questions import answers
from cowtrace.analysis.questions.answer import Measure, Quality
from cowtrace.analysis.questions.compare import compare
from cowtrace.analysis.questions.private_memory import DETAIL
from cowtrace.analysis.questions.written import DETAIL as OBJECTS
from cowtrace.cli import main
from cowtrace.model import Account, Cause, FaultKind, Phase, Place, WriteCause, Written
from cowtrace.recording import Recording
from cowtrace.recording.reader import read

PAGES = 12 * (23 + 11)


def cowtrace(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def measures(recording: Recording, number: int) -> dict[str, Measure]:
    return {each.name: each for each in answers(recording)[number - 1].measures}


def test_containers_and_cgroups_are_told(tmp_path: Path) -> None:
    places = {1: Place(1, "/plain"), 2: Place(7, f"/docker/{EVIL}")}
    path = write(tmp_path / "f", place_of=lambda process: places[process.pid])
    told = json.loads(cowtrace("report", path, "--json").output)
    assert told["contained"] == [{"pid": 2, "nspid": 7, "cgroup": f"/docker/{EVIL}"}]
    shown = cowtrace("report", path).output
    assert ": PID 2=7\n" in shown
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    by_whom = measures(read(path), 2)
    assert by_whom["in /plain"].value == 12 * 23 * PAGE
    assert "by side: parents" in told["in_words"]
    assert sum(m.value or 0 for name, m in by_whom.items() if name[:3] == "in ") == PAGES * PAGE


def test_of_one_cgroup_nothing_is_told(tmp_path: Path) -> None:
    found = make(tmp_path / "f", place_of=lambda process: Place(process.pid, "/one"))
    assert not [name for name in measures(found, 2) if name.startswith("in ")]


def test_all_questions_have_an_answer(tmp_path: Path) -> None:
    shown = cowtrace("report", write(tmp_path / "f"))
    assert shown.exit_code == 0
    assert re.findall(r"^ ?(\d+)\. ", shown.output, re.MULTILINE) == [str(n) for n in range(1, 13)]
    assert max(map(len, shown.output.splitlines())) <= 80
    assert "\x1b" not in shown.output
    assert shown.output.startswith("f: 12.0 s, 2 processes, 1 fork: 1.59 MiB copied.\n")


def test_where_private_memory_came_from(tmp_path: Path) -> None:
    accounts = (
        Account(7, now=90 * PAGE, began=23 * PAGE, by_cause={
            Cause.REPLACED: 60 * PAGE, Cause.TOUCHED: 11 * PAGE, Cause.UNMAPPED: 5 * PAGE
        }, traced={Cause.REPLACED: 59 * PAGE}),
        Account(8, now=7 * PAGE, moved=3 * PAGE, by_cause={Cause.LEFT_ALONE: 7 * PAGE}),
        Account(9, ended=True, now=2 * PAGE, by_cause={Cause.LEFT_ALONE: 2 * PAGE}),
    )  # fmt: skip
    made = make(tmp_path / "f")
    header = replace(made.header, details=frozenset({DETAIL}))
    last = replace(made.last, accounts=accounts)
    found = measures(replace(made, header=header, last=last), 11)
    assert {name: (each.value or 0) / PAGE for name, each in found.items()} == {
        "at the start": 23,
        "+ copied when written": 59,
        "+ given back, touched again": 1,
        "+ new memory, first touched": 11,
        "+ no longer shared by others": 9,
        "- unmapped": 5,
        "± unexplained": 1,
        "- freed at its end": 2,
        "changed while it was read": 3,
        "private memory, in all": 97,
    }


def test_what_was_written(tmp_path: Path) -> None:
    made = make(tmp_path / "f")
    counts = Written(WriteCause.REFERENCE_COUNT, "shop.Item\x1b", Phase.RUNNING)
    links = Written(WriteCause.GC_HEADER, "shop.Item\x1b", Phase.COLLECTING_2)
    stack = Written(WriteCause.STACK, None, None)
    samples = tuple(
        replace(made.last.samples[0], bytes=n * PAGE, faults=n, written=written)
        for n, written in ((50, counts), (30, links), (5, stack), (1, counts), (7, None))
    )
    header = replace(made.header, details=frozenset({"samples", OBJECTS}))
    found = measures(replace(made, header=header, last=replace(made.last, samples=samples)), 12)
    assert {name: (each.value or 0) / PAGE for name, each in found.items()} == {
        "reference count": 51,
        "GC header": 30,
        "stack": 5,
        "reference count of shop.Item\\x1b": 51,
        "GC header of shop.Item\\x1b": 30,
        "phase: running": 51,
        "phase: collecting, gen 2": 30,
        "phase: unknown": 5,
        "avoided by records in arrays or a file": 51,
        "avoided by gc.freeze() before the fork": 30,
    }


def test_the_numbers_of_the_answers(tmp_path: Path) -> None:
    found = make(tmp_path / "f")
    copied = measures(found, 1)["copied"]
    assert (copied.value, copied.faults, copied.quality) == (PAGES * PAGE, PAGES, Quality.EXACT)
    assert measures(found, 1)["re-marked only, faults"].value == 12
    assert measures(found, 2)["parents, after a fork"].value == 276 * PAGE
    assert measures(found, 2)["children, since their fork"].value == 132 * PAGE
    assert measures(found, 2)["outside of any fork's sharing"].value == 0
    assert measures(found, 3)["[heap]"].value == 276 * PAGE
    assert measures(found, 4)["phase: garbage collection"].value == 276 * PAGE
    assert measures(found, 4)["phase: garbage collection"].quality is Quality.ESTIMATE
    assert measures(found, 5)["mean"].value == pytest.approx(34 * PAGE)
    assert measures(found, 5)["fastest interval"].value == pytest.approx(34 * PAGE)
    assert measures(found, 5)["share of it in the last quarter"].value == pytest.approx(0.25)
    assert measures(found, 7)["huge pages (THP)"].value == 132 * PAGE
    assert measures(found, 8)["parent, copied, in all"].value == 2100 * 276
    assert measures(found, 8)["parent, copied, p99"].value == 2 << 11
    assert measures(found, 9)["may still be copied"].value == (4096 - PAGES) * PAGE
    assert measures(found, 10)["lost"].value == 0


def test_what_was_not_recorded_is_missing_and_never_0(tmp_path: Path) -> None:
    found = make(tmp_path / "f", details=frozenset())
    for number in (2, 3, 4, 8):
        for each in answers(found)[number - 1].measures:
            assert (each.value, each.quality) == (None, Quality.NOT_RECORDED)
    asked = frozenset({"generation", "mapping", "latency", "samples"})
    blind = make(tmp_path / "h", details=frozenset({"samples"}), asked=asked)
    for number in (2, 3, 8):
        qualities = {each.quality for each in answers(blind)[number - 1].measures}
        assert qualities == {Quality.NOT_SEEN}
    no_table = frozenset({FaultKind.SHARED})
    seen = measures(make(tmp_path / "g", plan="tracepoint", unseen=no_table), 7)
    assert {each.value for each in seen.values()} == {None}
    seen = measures(make(tmp_path / "i", plan="tracepoint"), 7)
    assert {name for name, each in seen.items() if each.value is None} == {"hugetlb"}


def test_bounds_are_called_bounds(tmp_path: Path) -> None:
    told = measures(make(tmp_path / "f", plan="tracepoint"), 1)
    assert told["copied"].quality is Quality.UPPER_BOUND
    assert told["zero-filled"].quality is Quality.EXACT
    lossy = make(tmp_path / "g", lost=23)
    assert measures(lossy, 1)["copied"].quality is Quality.LOWER_BOUND
    both = make(tmp_path / "h", lost=23, plan="tracepoint")
    assert measures(both, 1)["copied"].quality is Quality.INCOMPLETE
    assert measures(both, 1)["zero-filled"].quality is Quality.LOWER_BOUND
    assert measures(lossy, 10)["lost"].value == 23
    assert measures(lossy, 10)["cause: slot taken"].value == 23


def test_what_may_come_is_held_against_the_memory_that_is_left(tmp_path: Path) -> None:
    may_come = (4096 - PAGES) * PAGE
    for name, left, words in (("f", may_come, "fits into"), ("g", may_come - 1, "it can end in")):
        found = make(tmp_path / name, available=left + 12)
        told = measures(found, 9)
        assert told["memory available at the end"].value == left
        assert told["memory available, least"].value == left
        assert words in (answers(found)[8].note or "")
    assert "memory available at the end" not in measures(make(tmp_path / "h"), 9)


def test_a_recording_that_nobody_closed_says_so(tmp_path: Path) -> None:
    shown = cowtrace("report", write(tmp_path / "f", close=False)).output
    words = " ".join(shown.split())
    assert words.count("It was not closed") == 2


def test_json(tmp_path: Path) -> None:
    told: dict[str, Any] = json.loads(cowtrace("report", "--json", write(tmp_path / "f")).output)
    assert [answer["number"] for answer in told["answers"]] == list(range(1, 13))
    assert told["answers"][0]["measures"][0] == {
        "name": "copied",
        "value": PAGES * PAGE,
        "unit": "bytes",
        "quality": "exact",
        "faults": PAGES,
    }


def test_what_is_no_recording_is_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("no database")
    for arguments in (("report", path), ("diff", path, path)):
        result = cowtrace(*arguments)
        assert result.exit_code == 1
        assert len(result.output.splitlines()) == 2
        assert "Hint: " in result.output


def test_the_page_stands_alone_and_no_name_acts_in_it(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra cowtrace[report] is not installed")
    out = tmp_path / "out.html"
    assert cowtrace("report", write(tmp_path / "f"), "--html", out).exit_code == 0
    page = out.read_text()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert EVIL not in page
    assert html.escape("</script><b>\\x1b[31m") in page
    assert page.count("<script") == page.count("</script>")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page.partition("<main>")[2])
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    for name in ("time", "flame", "mappings", "latency"):
        assert f'id="chart-{name}"' in page


def test_without_plotly_the_hint_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    result = cowtrace("report", write(tmp_path / "f"), "--html", tmp_path / "out")
    assert result.exit_code == 1
    assert "pip install 'cowtrace[report]'" in result.output
    assert not (tmp_path / "out").exists()


def test_an_unwritable_page(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra cowtrace[report] is not installed")
    result = cowtrace("report", write(tmp_path / "f"), "--html", tmp_path / "no" / "out")
    assert result.exit_code == 1
    assert "cannot write" in result.output


def test_diff_says_first_whether_it_helped(tmp_path: Path) -> None:
    before, after = write(tmp_path / "A", scale=4), write(tmp_path / "B")
    shown = cowtrace("diff", before, after).output
    assert shown.splitlines()[0] == (
        "B copied 75% less than A: 1.59 MiB against 6.38 MiB, in about the same time."
    )
    assert "!" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"^    \[heap\] +4\.31 MiB +1\.08 MiB +-75%$", shown, re.MULTILINE)
    assert cowtrace("diff", after, before).output.startswith("B copied") is False
    assert "4.0 times as much as B" in cowtrace("diff", after, before).output
    same = " ".join(cowtrace("diff", before, before).output.split())
    assert "copied as much as" in same


def test_diff_says_when_two_are_not_comparable(tmp_path: Path) -> None:
    before = write(tmp_path / "A")
    other: dict[str, Any] = {
        "kernel": "5.10",
        "plan": "tracepoint",
        "page_bytes": 65536,
        "command": "./other",
    }
    after = write(tmp_path / "B", intervals=30, close=False, **other)
    shown = " ".join(cowtrace("diff", before, after).output.split())
    for doubt in (
        "! They lasted 12.0 s and 30.0 s: compare the rates.",
        "! Their kernels' pages differ: 4,096 and 65,536 bytes.",
        "! Their kernels differ: 6.12.43+deb13-cloud-amd64 and 5.10.",
        "! Their plans differ, which see more or less: kprobe and tracepoint.",
        "! Their commands differ.",
        "! What B copied is an upper bound",
        "! B was not closed",
    ):
        assert doubt in shown


def test_diff_says_when_code_has_no_name(tmp_path: Path) -> None:
    made = make(tmp_path / "A")
    named = detail(1, faults=89, user_stack=calls("fill", "main"))
    nameless = detail(1, faults=11, user_stack=calls("[unknown]", module=""))
    other = replace(made, last=replace(made.last, samples=(named, nameless)))
    same = replace(made, last=replace(made.last, samples=(named,)))
    found = " ".join(compare(same, other, ("A", "B")).doubts)
    assert "In B 11% of the copies are of code without a name" in found
    assert "In A" not in found


def test_diff_as_json(tmp_path: Path) -> None:
    shown = cowtrace("diff", "--json", write(tmp_path / "A", scale=2), write(tmp_path / "B"))
    told = json.loads(shown.output)
    copied = told["questions"][0]["measures"][0]
    assert copied["name"] == "copied"
    assert (copied["before"], copied["after"]) == (2 * PAGES * PAGE, PAGES * PAGE)
    assert copied["change"] == pytest.approx(-0.5)
