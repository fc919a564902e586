"""Made-up outcomes, snapshots and checks, so that verify is tested with no kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from snapshots import process, row, snapshot

from cowtrace.model import FaultKind, FaultRow, Snapshot
from cowtrace.verify.check import Check, Count, Verdict
from cowtrace.workloads import outcome as outcomes
from cowtrace.workloads.outcome import Counts, Evidence, Observed, Outcome
from cowtrace.workloads.workload import WORKLOADS, Workload

PARENT, CHILD = 100, 101
PAGES = 23
HOSTILE = "x\x1b[31m<b>&\"]]>\u202e\x00'"


def observed(
    role: str, pid: int, pagemap: Counts | None, expected: dict[str, int | None]
) -> Observed:
    told = outcomes.expected(role, **expected)
    return Observed(role, pid, told, pagemap, 46_000, PAGES, True)


def outcome(*evidence: Evidence, name: str = "fork-both-write", **changes: Any) -> Outcome:
    """The child's pages copied, the parent's re-marked; both as expected."""
    made = Outcome(
        name,
        PAGES,
        4096,
        (
            observed("parent", PARENT, Counts(reused=PAGES), {"reused": PAGES}),
            observed("child", CHILD, Counts(copied=PAGES), {"copied": PAGES}),
        ),
        evidence,
    )
    return replace(made, **changes)


def trace(
    *,
    parent: tuple[FaultRow, ...] | None = None,
    child: tuple[FaultRow, ...] | None = None,
    **how: Any,
) -> Snapshot:
    """What a tracer saw of it."""
    unseen = how.get("unseen", frozenset())
    rows = (row(FaultKind.REUSED, PAGES),) if parent is None else parent
    copies = (row(FaultKind.COPIED, PAGES),) if child is None else child
    return snapshot(
        process(PARENT, "python3", *rows, unseen=unseen),
        process(CHILD, "python3", *copies, unseen=unseen),
        **how,
    )


def workload(group: str = "C4", name: str = "fork-both-write", **changes: Any) -> Workload:
    return replace(WORKLOADS[name], group=group, **changes)


def count(kind: str = "copied", traced: int | None = PAGES, **changes: Any) -> Count:
    """Of a child; what was traced is what was expected, and what pagemap shows."""
    made = Count(
        role="child",
        kind=kind,
        expected=traced,
        traced=traced,
        pagemap=traced,
        sources=("anon",),
        origins=("user",),
    )
    return replace(made, **changes)


def check(group: str = "C1", verdict: Verdict = Verdict.HOLDS, **changes: Any) -> Check:
    made = Check(
        group=group,
        name="fork-read-only",
        claim="fork copies no data",
        did="both sides only read (23 pages)",
        expected="parent: no copy-on-write",
        observed="parent: no copy-on-write",
        pages=PAGES,
        evidence=(Evidence("pagemap", "parent: copied", 0, 0, True),),
        verdict=verdict,
        why="" if verdict is Verdict.HOLDS else "the reason",
        findings=(),
        kernel="6.12.43+deb13-cloud-amd64",
        plan="kprobe",
        seconds=0.25,
    )
    return replace(made, **changes)
