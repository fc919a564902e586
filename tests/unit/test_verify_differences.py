"""Two kernels, two runs and several plans compared: what differs, in words."""

from __future__ import annotations

from typing import Any

import pytest
from made_checks import PAGES, check, count

from cowtrace.verify.agreement import disagreements, merged
from cowtrace.verify.baseline import counterpart, since, updated
from cowtrace.verify.check import Check, Count, Verdict
from cowtrace.verify.differences import Change, Difference, differences
from cowtrace.verify.matrix import KernelChecks
from cowtrace.workloads.outcome import Evidence

COPIES = check(counts=(count(),))
RE_MARKS = check(counts=(count("reused"),))


def differ(one: Check, other: Check) -> Difference | None:
    found = differences([one], [other], ("6.1", "7.2"))
    assert len(found) <= 1
    return found[0] if found else None


def words(one: Check, other: Check) -> str:
    found = differ(one, other)
    return found.words if found else ""


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ((count(),), (count("reused"),), "6.1 copies 23 of 23 pages, 7.2 re-marks them"),
        ((count(),), (count(traced=22),), "6.1 copies 23 of 23 pages, 7.2 copies 22 of 23 pages"),
        ((count("reused"),), (), "6.1 re-marks 23 of 23 pages, 7.2 has no such fault"),
        (
            (),
            (count("file-copied"),),
            "6.1 has no such fault, 7.2 copies 23 of 23 pages from the file",
        ),
        (
            (count(),),
            (count(origins=("unshare",)), count("reused")),
            "6.1 copies 23 of 23 pages by user, 7.2 copies 23 of 23 pages by unshare "
            "and re-marks 23 of 23 pages",
        ),
        (
            (count("zero-filled", sources=("zero",)),),
            (count("zero-filled", 1, sources=("thp",)),),
            "6.1 zero-fills 23 of 23 pages (zero), 7.2 zero-fills 1 page (thp)",
        ),
        ((count(traced=46),), (), "6.1 copies 46 pages, 7.2 has no such fault"),
    ],
)  # fmt: skip
def test_counts_that_differ(one: tuple[Count, ...], other: tuple[Count, ...], said: str) -> None:
    found = differ(check(counts=one), check(counts=other))
    assert found == Difference(Change.CHANGED, "C1", "fork-read-only", f"child: {said}", False)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"expected": 22},  # what was counted is the same
        {"traced": None},  # this plan cannot see it, pagemap can
        {"traced": None, "pagemap": None},  # nothing is known
        {"sources": ()},  # this plan knows none
        {"traced": 46, "upper_bound": True, "pagemap": PAGES},  # which is exact
        {"traced": 46, "upper_bound": True, "pagemap": None},
    ],
)
def test_counts_that_do_not_differ(other: dict[str, Any]) -> None:
    assert differ(COPIES, check(counts=(count(**other),))) is None


def test_what_the_kernel_may_choose_differs_where_it_does_so_otherwise() -> None:
    many = [check(pages=509, counts=(count(traced=n, expected=None),)) for n in (487, 488, 300, 0)]
    assert differ(many[0], many[1]) is None
    assert (
        words(many[0], many[2]) == "child: 6.1 copies 487 of 509 pages, 7.2 copies 300 of 509 pages"
    )
    assert words(many[0], many[3]).endswith("7.2 has no such fault")


def test_another_number_of_pages_is_no_difference() -> None:
    assert differ(COPIES, check(pages=46, counts=(count(traced=46),))) is None
    assert differ(COPIES, check(pages=46, counts=(count("reused", 46),))) is not None


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (Verdict.HOLDS, Verdict.FAILS, Change.WORSE),
        (Verdict.HOLDS, Verdict.UNSEEN, Change.WORSE),
        (Verdict.UNSEEN, Verdict.FAILS, Change.WORSE),
        (Verdict.FAILS, Verdict.UNSEEN, Change.BETTER),
        (Verdict.FAILS, Verdict.HOLDS, Change.BETTER),
    ],
)
def test_verdicts(before: Verdict, now: Verdict, change: Change) -> None:
    found = differ(check(verdict=before), check(verdict=now))
    assert found
    assert (found.change, found.worse) == (change, change is Change.WORSE)
    assert "the reason" in found.words
    assert differ(check(verdict=now), check(verdict=now)) is None


def test_a_plan_that_is_blind_says_nothing_about_the_kernel() -> None:
    blind = check(verdict=Verdict.UNSEEN, plan="tracepoint", blind=True)
    found = differ(check(counts=(count(),)), blind)
    assert found
    assert (found.change, found.worse) == (Change.CHANGED, False)


@pytest.mark.parametrize(
    ("one", "other", "change", "worse"),
    [
        ([check()], [], Change.GONE, True),
        ([], [check()], Change.NEW, False),
        ([], [check(verdict=Verdict.FAILS)], Change.NEW, True),
    ],
)
def test_a_check_that_only_one_side_has(
    one: list[Check], other: list[Check], change: Change, worse: bool
) -> None:
    (found,) = differences(one, other, ("before", "now"))
    assert (found.change, found.worse) == (change, worse)
    assert found.words.startswith("only before" if one else "only now")


def test_evidence_that_is_the_same_in_each_run_is_compared() -> None:
    def seen(oracle: str, observed: int | str) -> Check:
        return check(evidence=(Evidence(oracle, "size of a page:", None, observed, True),))

    assert words(seen("smaps", 4), seen("smaps", 16)) == (
        "smaps, size of a page: 4 on 6.1, 16 on 7.2"
    )
    assert words(seen("taskstats", 4), seen("taskstats", 16)) == ""


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        ("487 of 509", "488 of 509", False),
        ("487 of 509", "300 of 509", True),
        ("copied 487", "copied 487, failed 1", True),
        ("page-table copies: absent", "page-table copies: 3", True),
    ],
)
def test_findings(one: str, other: str, differs: bool) -> None:
    said = words(check(findings=(one,)), check(findings=(other,)))
    assert said == (f"6.1: {one}; 7.2: {other}" if differs else "")


PLANS = ("fentry", "kprobe", "tracepoint")


def by_plans(*counts: Count, **changes: Check) -> list[Check]:
    return [changes.get(plan, check(plan=plan, counts=counts)) for plan in PLANS]


def test_of_several_plans_each_difference_is_told_once() -> None:
    blind = check(verdict=Verdict.UNSEEN, plan="tracepoint", blind=True)
    fails = check(verdict=Verdict.FAILS, plan="kprobe", counts=(count("reused"),))
    re_marks = by_plans(count("reused"), tracepoint=blind)
    (found,) = differences(by_plans(count()), re_marks, ("6.1", "7.2"))
    assert found.change is Change.CHANGED
    found, other = differences(
        by_plans(count()), by_plans(count("reused"), kprobe=fails), ("6.1", "7.2")
    )
    assert (found.change, other.change) == (Change.CHANGED, Change.WORSE)
    assert other.words.startswith("6.1 holds, 7.2 does not hold: the reason; child: ")
    assert differences(by_plans(count()), by_plans(count(), tracepoint=blind), ("", "")) == ()


def by(plan: str, *counts: Count, verdict: Verdict = Verdict.HOLDS, **changes: Any) -> Check:
    return check(plan=plan, counts=counts, verdict=verdict, **changes)


def test_plans_that_agree() -> None:
    blind = by("tracepoint", verdict=Verdict.UNSEEN, blind=True)
    bound = by("tracepoint", count(traced=PAGES + 1, upper_bound=True, pagemap=PAGES))
    no_room = by("tracepoint", verdict=Verdict.UNSEEN, pages=None)
    lost = by("tracepoint", count(traced=22, pagemap=PAGES), verdict=Verdict.UNSEEN)
    for other in (by("kprobe", count()), blind, bound, no_room, lost):
        assert disagreements([by("fentry", count()), other]) == ()
        assert merged([by("fentry", count()), other]) is Verdict.HOLDS
    assert merged([blind]) is Verdict.UNSEEN


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            by("kprobe", count("reused")),
            "child: fentry copies 23 of 23 pages, kprobe re-marks them",
        ),
        (
            by("kprobe", count(), verdict=Verdict.FAILS),
            "fentry holds, kprobe does not hold: the reason",
        ),
    ],
)  # fmt: skip
def test_plans_that_differ(other: Check, said: str) -> None:
    (found,) = disagreements([by("fentry", count()), other])
    assert (found.name, found.plans, found.words) == (
        "fork-read-only", ("fentry", other.plan), said
    )  # fmt: skip


def kernel(name: str, release: str = "", *checks: Check) -> KernelChecks:
    made = checks or (check(),)
    return KernelChecks(name, tuple(
        check(each.group, each.verdict, name=each.name, kernel=release or name) for each in made
    ), ())  # fmt: skip


OLD = (kernel("5.10", "5.10.0-32"), kernel("6.12", "6.12.117+deb13"), kernel("7.2", "7.2.12"))


@pytest.mark.parametrize(
    ("name", "release", "with_"),
    [
        ("6.12", "9.9", "6.12"),  # by its name, whatever it is now
        ("linux", "7.3.0-rc1", "7.2"),
        ("linux", "7.2.0-rc3", "6.12"),
        ("linux", "6.2.0", "5.10"),
        ("linux", "4.19.0", "5.10"),
        ("linux", "?", "7.2"),
    ],
)
def test_the_kernel_to_compare_with(name: str, release: str, with_: str) -> None:
    found = counterpart(OLD, kernel(name, release))
    assert found
    assert found.kernel == with_
    assert counterpart((), OLD[0]) is None


def test_what_was_not_checked_has_not_vanished() -> None:
    before = kernel("6.12", "", check("C1", name="one"), check("C2", name="two"))
    now = kernel("6.12", "", check("C1", name="one"))
    (some,) = since([before], [now], {"C1"})
    assert (some.differences, some.worse) == ((), False)
    (every,) = since([before], [now])
    assert [each.change for each in every.differences] == [Change.GONE]
    assert every.worse


def test_an_update_replaces_what_was_checked_and_keeps_the_rest() -> None:
    before = kernel("6.12", "", check("C1", name="one"), check("C2", name="two"))
    now = kernel("6.12", "", check("C1", Verdict.FAILS, name="one"))
    kept = updated([OLD[0], before], [now, kernel("7.3")], {"C1"})
    assert [one.kernel for one in kept] == ["5.10", "6.12", "7.3"]
    assert [(each.name, each.verdict) for each in kept[1].checks] == [
        ("two", Verdict.HOLDS), ("one", Verdict.FAILS)
    ]  # fmt: skip
    assert updated([before], [now])[0] == now
