"""Every verdict, from made-up outcomes and snapshots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from made_checks import CHILD, PAGES, PARENT, observed, outcome, trace, workload
from snapshots import row

from cowtrace.model import Completeness, FaultKind, FaultRow, Origin, Source
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.judge import judge, unfinished
from cowtrace.verify.session import with_losses_since
from cowtrace.workloads import outcome as outcomes
from cowtrace.workloads.outcome import Counts, Evidence, ExpectedRow

LOST = Completeness(lost=3, detail=(("slot taken", 3),))


def copies(faults: int, bytes_: int | None = None, source: Source = Source.ANON) -> FaultRow:
    moved = faults * 4096 if bytes_ is None else bytes_
    return FaultRow(FaultKind.COPIED, source, Origin.USER, None, faults, moved)


def judged(group: str = "C4", **how: Any) -> Check:
    return judge(workload(group), outcome(), trace(**how), 0.5)


def test_all_agree() -> None:
    made = judged()
    assert (made.verdict, made.why, made.findings) == (Verdict.HOLDS, "", ())
    assert made.expected == "parent: reused 23; child: copied 23"
    assert made.observed == "parent: reused 23 (anon); child: copied 23 (anon)"
    assert (made.plan, made.kernel, made.seconds) == ("kprobe", "6.12.43+deb13-cloud-amd64", 0.5)
    assert made.did.endswith("(23 pages)")


@pytest.mark.parametrize("faults", [PAGES - 1, PAGES + 1, 2 * PAGES, 0])
def test_a_count_that_differs(faults: int) -> None:
    made = judged(child=(copies(faults),))
    assert made.verdict is Verdict.FAILS
    assert "child copied: 23 expected" in made.why
    assert f"{faults} traced" in made.why


def test_copies_that_pagemap_did_not_see() -> None:
    blind = outcome(
        processes=(
            observed("parent", PARENT, Counts(reused=PAGES), {"reused": PAGES}),
            observed("child", CHILD, Counts(copied=PAGES - 1, reused=1), {"copied": PAGES}),
        )
    )
    made = judge(workload(), blind, trace(), 0.5)
    assert made.verdict is Verdict.FAILS
    assert "22 by pagemap" in made.why


def test_bytes_are_whole_pages() -> None:
    made = judged(child=(copies(PAGES, PAGES),))
    assert made.verdict is Verdict.FAILS
    assert made.why == "child copied: 23 bytes traced for 23 faults"


def test_bytes_of_large_pages_are_not_pages_of_the_base_size() -> None:
    assert judged(child=(copies(PAGES, PAGES << 21, Source.HUGETLB),)).verdict is Verdict.HOLDS


def test_bytes_of_what_copies_nothing() -> None:
    odd = FaultRow(FaultKind.REUSED, Source.ANON, Origin.USER, None, PAGES, 4096)
    assert judged(parent=(odd,)).verdict is Verdict.FAILS


@pytest.mark.parametrize("kind", [FaultKind.UNCLASSIFIED, FaultKind.FAILED])
def test_a_fault_that_went_wrong(kind: FaultKind) -> None:
    made = judged(child=(copies(PAGES), row(kind, 1)))
    assert made.verdict is Verdict.FAILS
    assert made.why == f"child {kind.label}: 1 traced"


def test_an_oracle_contradicts() -> None:
    wrong = Evidence("vmstat", "cow_ksm", PAGES, PAGES - 1, False)
    made = judge(workload(), outcome(wrong), trace(), 0.5)
    assert made.verdict is Verdict.FAILS
    assert made.why == "vmstat, cow_ksm: expected 23, found 22"
    assert made.evidence == (wrong,)


def test_an_oracle_that_cannot_tell_contradicts_nothing() -> None:
    silent = Evidence("taskstats", "wpcopy", PAGES, None, None)
    assert judge(workload(), outcome(silent), trace(), 0.5).verdict is Verdict.HOLDS


def test_wrong_data() -> None:
    parent, child = outcome().processes
    wrong = outcome(processes=(parent, replace(child, data_right=False)))
    made = judge(workload(), wrong, trace(), 0.5)
    assert (made.verdict, made.why) == (Verdict.FAILS, "child read back something else")


def test_kinds_that_the_plan_cannot_see_are_no_zero() -> None:
    hidden = frozenset({FaultKind.REUSED})
    made = judged(parent=(), unseen=hidden)
    assert made.verdict is Verdict.HOLDS
    assert "parent: reused -" in made.observed


def test_kinds_that_neither_the_plan_nor_pagemap_sees() -> None:
    hidden = frozenset({FaultKind.REUSED, FaultKind.COPIED})
    dark = outcome(
        processes=(
            observed("parent", PARENT, None, {"reused": PAGES}),
            observed("child", CHILD, None, {"copied": PAGES}),
        )
    )
    made = judge(workload(), dark, trace(parent=(), child=(), unseen=hidden), 0.5)
    assert made.verdict is Verdict.UNSEEN
    assert made.why == "neither the kprobe plan nor pagemap can see: reused, copied"


def test_a_path_that_the_plan_cannot_see() -> None:
    path = workload("remote", unseen_by={"kprobe": "it looks elsewhere"})
    made = judge(path, outcome(), trace(child=()), 0.5)
    assert (made.verdict, made.blind) == (Verdict.UNSEEN, True)
    assert made.why == "by the kprobe plan: it looks elsewhere"
    wrong = Evidence("vmstat", "cow_ksm", PAGES, 0, False)
    assert judge(path, outcome(wrong), trace(child=()), 0.5).verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("faults", "verdict"),
    [(PAGES, Verdict.HOLDS), (PAGES - 3, Verdict.UNSEEN), (PAGES - 4, Verdict.FAILS)],
)
def test_losses_excuse_what_they_can_explain(faults: int, verdict: Verdict) -> None:
    made = judged(child=(copies(faults),), completeness=LOST)
    assert (made.verdict, made.blind) == (verdict, False)
    if verdict is Verdict.UNSEEN:
        assert made.why == "the trace lost 3 faults"


def test_losses_excuse_no_surplus() -> None:
    assert judged(child=(copies(PAGES + 1),), completeness=LOST).verdict is Verdict.FAILS


def test_losses_before_the_workload_are_not_its_own() -> None:
    earlier = trace(completeness=LOST)
    later = trace(completeness=Completeness(5, (("slot taken", 3), ("entry missed", 2))))
    assert with_losses_since(earlier, later).completeness == Completeness(2, (("entry missed", 2),))


@pytest.mark.parametrize(
    ("reused", "words"),
    [
        (PAGES, "the last writer's pages were only re-marked: 23 of 23"),
        (0, "the last writer's pages were copied once more: 23 of 23"),
        (20, "of the last writer's 23 pages, 20 were only re-marked and 3 copied once more"),
    ],
)
def test_c6_either_outcome_is_a_finding(reused: int, words: str) -> None:
    copied = PAGES - reused
    seen = Counts(reused=reused, copied=copied)
    frames = Evidence("pagemap", "parent: reused", PAGES, reused, reused == PAGES)
    ran = outcome(
        frames,
        processes=(
            observed("parent", PARENT, seen, {"reused": PAGES}),
            observed("child", CHILD, Counts(copied=PAGES), {"copied": PAGES}),
        ),
    )
    rows = tuple(r for r in (row(FaultKind.REUSED, reused), copies(copied)) if r.faults)
    made = judge(workload("C6"), ran, trace(parent=rows), 0.5)
    assert (made.verdict, made.findings) == (Verdict.HOLDS, (words,)), made.why


def test_c6_the_trace_must_agree_with_pagemap() -> None:
    made = judged("C6", parent=(copies(PAGES),))
    assert made.verdict is Verdict.FAILS
    assert judged("C6", parent=(row(FaultKind.REUSED, PAGES - 1),)).verdict is Verdict.FAILS


def test_what_is_not_expected_is_a_finding() -> None:
    own_way = outcome(
        processes=(
            observed("parent", PARENT, Counts(reused=PAGES), {"reused": None}),
            observed("child", CHILD, Counts(copied=PAGES), {"copied": PAGES}),
        )
    )
    made = judge(workload("swap"), own_way, trace(), 0.5)
    assert made.verdict is Verdict.HOLDS
    assert made.findings == ("fork-both-write: parent: reused 23 (anon); child: copied 23 (anon)",)


def test_what_kernels_do_differently_is_a_finding_where_it_is_seen() -> None:
    words = "fork-both-write: parent: reused 23 (anon); child: copied 23 (anon)"
    varies = workload("swap", varies=True)
    assert judge(varies, outcome(), trace(), 0.5).findings == (words,)
    hidden = replace(varies, unseen_by={trace().plan: "not here"})
    assert judge(hidden, outcome(), trace(), 0.5).findings == ()


REMOTE = ExpectedRow(
    FaultKind.COPIED, Source.ANON, Origin.REMOTE, PAGES, PAGES * 4096, actor="parent"
)


def judged_rows(expected: ExpectedRow, *traced: FaultRow, plan: str = "kprobe") -> Check:
    """A child of which rows are expected, and these were traced."""
    parent, child = outcome().processes
    told = replace(child, expected=outcomes.child(expected))
    ran = outcome(processes=(parent, told))
    return judge(workload(), ran, trace(child=traced, plan=plan), 0.5)


def remote(**changes: Any) -> FaultRow:
    row = FaultRow(FaultKind.COPIED, Source.ANON, Origin.REMOTE, PARENT, PAGES, PAGES * 4096)
    return replace(row, **changes)


def test_rows_as_expected() -> None:
    assert judged_rows(REMOTE, remote()).verdict is Verdict.HOLDS
    unknown = remote(source=Source.UNKNOWN)  # this plan cannot tell
    assert judged_rows(REMOTE, unknown).verdict is Verdict.HOLDS
    halves = (remote(faults=20, bytes=20 * 4096), remote(faults=3, bytes=3 * 4096))
    assert judged_rows(REMOTE, *halves).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    "changes",
    [
        {"source": Source.KSM},
        {"origin": Origin.USER},
        {"actor": CHILD},
        {"actor": None},
    ],
)
def test_a_row_that_is_not_as_expected(changes: dict[str, Any]) -> None:
    made = judged_rows(REMOTE, remote(**changes))
    assert made.verdict is Verdict.FAILS
    assert "child copied (anon, by remote): 23 expected, 0 traced" in made.why
    assert "0 expected, 23 traced" in made.why


def test_bytes_of_huge_pages_are_compared() -> None:
    huge = replace(REMOTE, source=Source.HUGETLB, bytes=PAGES << 21)
    whole = remote(source=Source.HUGETLB, bytes=PAGES << 21)
    assert judged_rows(huge, whole).verdict is Verdict.HOLDS
    made = judged_rows(huge, replace(whole, bytes=PAGES << 12))
    assert "48,234,496 bytes expected, 94,208 traced" in made.why


def test_any_number_of_faults_may_be_expected() -> None:
    failing = ExpectedRow(FaultKind.FAILED, Source.UNKNOWN, Origin.USER)
    parent, child = outcome().processes
    told = replace(child, expected=outcomes.child(failing, copied=PAGES))
    for faults in (0, 1):
        rows = (copies(PAGES), *[row(FaultKind.FAILED, 1, Source.UNKNOWN)] * faults)
        made = judge(workload(), outcome(processes=(parent, told)), trace(child=rows), 0.5)
        assert made.verdict is Verdict.HOLDS, made.why


def test_a_workload_that_did_not_run() -> None:
    made = unfinished(workload(), "no hugetlb pool can be had", trace(), 0.1, Verdict.UNSEEN)
    assert (made.verdict, made.why) == (Verdict.UNSEEN, "no hugetlb pool can be had")
    assert made.evidence == ()


HIDDEN = (
    observed("parent", PARENT, None, {"reused": PAGES}),
    observed("child", CHILD, None, {"copied": PAGES}),
)


def test_c6_each_page_is_written_once_also_where_frames_are_hidden() -> None:
    short = trace(parent=(row(FaultKind.REUSED, PAGES - 1),))
    made = judge(workload("C6"), outcome(processes=HIDDEN), short, 0.5)
    assert made.verdict is Verdict.FAILS
    assert made.why == "parent copied or reused: 23 expected, 22 traced"
    assert judge(workload("C6"), outcome(processes=HIDDEN), trace(), 0.5).verdict is Verdict.HOLDS


def test_c6_allows_no_other_contradiction() -> None:
    wrong = Evidence("smaps", "parent: Private_Dirty", PAGES, 0, False)
    made = judge(workload("C6"), outcome(wrong), trace(), 0.5)
    assert made.verdict is Verdict.FAILS


def test_losses_excuse_nothing_that_pagemap_contradicts() -> None:
    processes = (
        observed("parent", PARENT, Counts(reused=PAGES), {"reused": PAGES}),
        observed("child", CHILD, Counts(copied=PAGES - 1), {"copied": PAGES}),
    )
    lossy = trace(child=(copies(PAGES - 1),), completeness=LOST)
    assert judge(workload(), outcome(processes=processes), lossy, 0.5).verdict is Verdict.FAILS


def test_what_a_workload_found_is_a_finding() -> None:
    made = judge(workload(), outcome(findings=("the page stays private",)), trace(), 0.5)
    assert (made.verdict, made.findings) == (
        Verdict.HOLDS,
        ("fork-both-write: the page stays private",),
    )


def test_counts_are_numbers_too() -> None:
    made = judged()
    assert made.pages == PAGES
    assert [(each.role, each.kind, each.expected, each.traced, each.pagemap, each.sources)
            for each in made.counts] == [
        ("parent", "reused", PAGES, PAGES, PAGES, ("anon",)),
        ("child", "copied", PAGES, PAGES, PAGES, ("anon",)),
    ]  # fmt: skip
    assert {each.origins for each in made.counts} == {("user",)}
    assert not made.blind


def test_counts_of_a_role_are_summed_up() -> None:
    children = [observed("child", pid, Counts(copied=2), {"copied": 2}) for pid in (101, 102)]
    (parent, _) = outcome().processes
    made = judge(workload(), outcome(processes=(parent, *children)), trace(), 0.5)
    (copied,) = [each for each in made.counts if each.kind == "copied"]
    assert (copied.expected, copied.traced, copied.pagemap) == (4, PAGES, 4)


def test_a_kind_that_the_kernel_may_choose_is_kept_even_if_there_is_none() -> None:
    made = judge(workload("C6"), outcome(), trace(), 0.5)
    chosen = {(each.kind, each.expected, each.traced) for each in made.counts}
    assert {("copied", None, 0), ("reused", None, PAGES)} <= chosen
