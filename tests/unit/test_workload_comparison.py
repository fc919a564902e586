"""Expected, traced and pagemap side by side, with made-up snapshots; and how that is shown."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from click.testing import CliRunner
from snapshots import FakeTracer

from cowtrace import tracer, workloads
from cowtrace.cli import main
from cowtrace.errors import EXIT_MISMATCH
from cowtrace.model import Completeness, FaultKind, FaultRow, Origin, Process, Snapshot, Source
from cowtrace.terminal import plain
from cowtrace.workloads import table
from cowtrace.workloads.comparison import Comparison, comparison
from cowtrace.workloads.evidence import evidence
from cowtrace.workloads.outcome import Counts, Expected, ExpectedRow, Observed, Outcome
from cowtrace.workloads.workload import WORKLOADS

PARENT, CHILD = 100, 101
BLIND = frozenset({FaultKind.FILE_COPIED, FaultKind.SHARED})


def fault_row(kind: FaultKind, faults: int) -> FaultRow:
    return FaultRow(kind, Source.ANON, Origin.USER, None, faults, 0)


def process(pid: int, **kinds: int) -> Process:
    rows = tuple(fault_row(FaultKind[kind.upper()], faults) for kind, faults in kinds.items())
    return Process(pid, "python3", None, True, None, rows, BLIND)


def snapshot(*processes: Process, lost: int = 0) -> Snapshot:
    done = Completeness(lost=lost, detail=())
    return Snapshot(2, 1, "tracepoint", "6.18.0", 4096, processes, done, BLIND)


def observed(role: str, pid: int, pagemap: Counts | None, **expected: Any) -> Observed:
    return Observed(role, pid, Expected(role=role, **expected), pagemap, 46_000, 23, True)


OUTCOME = Outcome(
    "fork-both-write",
    23,
    4096,
    (
        observed("parent", PARENT, Counts(reused=23), reused=23),
        observed("child", CHILD, Counts(copied=23), copied=23),
    ),
)
TRACED = snapshot(process(PARENT, reused=23), process(CHILD, copied=23))


def numbers(compared: Comparison, pid: int, kind: FaultKind) -> tuple[int | None, ...]:
    (row,) = [row for row in compared.rows if (row.pid, row.kind) == (pid, kind)]
    return row.expected, row.traced, row.pagemap


def shown(view: Any) -> str:
    stream = io.StringIO()
    plain.write(stream, view)
    return stream.getvalue()


def test_all_agree() -> None:
    compared = comparison(OUTCOME, TRACED)
    assert compared.ok
    assert numbers(compared, PARENT, FaultKind.REUSED) == (23, 23, 23)
    assert numbers(compared, CHILD, FaultKind.COPIED) == (23, 23, 23)


def test_what_the_plan_cannot_see_is_none_and_no_mismatch() -> None:
    compared = comparison(OUTCOME, TRACED)
    assert numbers(compared, PARENT, FaultKind.SHARED) == (0, None, 0)
    assert compared.ok


def test_a_process_without_a_fault_may_be_missing() -> None:
    compared = comparison(OUTCOME, snapshot(process(PARENT, reused=23)))
    assert numbers(compared, CHILD, FaultKind.COPIED) == (23, 0, 23)
    assert numbers(compared, CHILD, FaultKind.SHARED) == (0, None, 0)
    assert not compared.ok


def test_faults_of_other_processes_do_not_count() -> None:
    other = process(102, copied=5, unclassified=1)
    assert comparison(OUTCOME, snapshot(*TRACED.processes, other)).ok


def test_lost_races_are_free() -> None:
    raced = snapshot(process(PARENT, reused=23), process(CHILD, copied=23, unchanged=9))
    assert comparison(OUTCOME, raced).ok


def test_lost_races_make_upper_bounds_where_the_plan_does_not_see_them() -> None:
    child = observed("child", CHILD, Counts(copied=23), copied=23)
    raced = Outcome("threads-race", 23, 4096, (child,))

    def compare(unseen: frozenset[FaultKind], copied: int) -> Comparison:
        faults = process(CHILD, copied=copied, zero_filled=copied - 23)
        traced = dataclasses.replace(snapshot(faults), unseen=unseen)
        return comparison(raced, traced)

    blind = BLIND | {FaultKind.UNCHANGED}
    assert compare(blind, 30).ok
    assert "≤ 30       23  ok\n" in shown(table.counts(compare(blind, 30)))
    assert "as far as this plan can show\n" in shown(table.verdict(compare(blind, 30)))
    assert not compare(blind, 22).ok
    assert not compare(BLIND, 30).ok
    assert compare(BLIND, 23).ok


@pytest.mark.parametrize(
    "wrong",
    [
        snapshot(process(PARENT, reused=23), process(CHILD, copied=22)),
        snapshot(process(PARENT, reused=23, copied=1), process(CHILD, copied=23)),
        snapshot(process(PARENT, copied=23), process(CHILD, reused=23)),
        snapshot(process(PARENT, reused=23), process(CHILD, copied=23, unclassified=1)),
        snapshot(process(PARENT, reused=23), process(CHILD, copied=23, failed=1)),
        snapshot(*TRACED.processes, lost=1),
        snapshot(),
    ],
)
def test_a_mismatch_of_the_trace(wrong: Snapshot) -> None:
    assert not comparison(OUTCOME, wrong).ok


def test_pagemap_and_data_can_disagree_too() -> None:
    parent, child = OUTCOME.processes
    other_frames = dataclasses.replace(parent, pagemap=Counts(copied=23))
    wrong_data = dataclasses.replace(child, data_right=False)
    for processes in ((other_frames, child), (parent, wrong_data)):
        assert not comparison(dataclasses.replace(OUTCOME, processes=processes), TRACED).ok


def test_hidden_frames_are_no_mismatch() -> None:
    processes = tuple(dataclasses.replace(p, pagemap=None) for p in OUTCOME.processes)
    compared = comparison(dataclasses.replace(OUTCOME, processes=processes), TRACED)
    assert compared.ok
    assert numbers(compared, CHILD, FaultKind.COPIED) == (23, 23, None)


def test_the_table() -> None:
    compared = comparison(OUTCOME, TRACED)
    assert shown(table.counts(compared)) == (
        "PROCESS  PID  KIND    EXPECTED  TRACED  PAGEMAP\n"
        "parent   100  reused        23      23       23  ok\n"
        "child    101  copied        23      23       23  ok\n"
    )
    assert shown(table.verdict(compared)) == (
        "fork-both-write: as expected, page for page\n"
        "plan tracepoint, kernel 6.18.0, unclassified 0, lost 0\n"
    )
    assert len(shown(table.counts(compared, every_kind=True)).splitlines()) == 1 + 2 * 5
    assert "child 101 wrote 23 pages, 2.00 µs each" in shown(table.times(OUTCOME))


def test_the_table_of_a_mismatch() -> None:
    compared = comparison(OUTCOME, snapshot(process(PARENT, reused=23), lost=2))
    assert shown(table.counts(compared)).splitlines()[2] == (
        "child    101  copied        23       0       23  differs"
    )
    assert shown(table.verdict(compared)).splitlines()[0] == (
        "fork-both-write: not as expected: 1 of 10 counts differ, 2 lost"
    )


def test_a_process_that_did_nothing_shows_its_copies() -> None:
    compared = comparison(
        Outcome("fork-read-only", 23, 4096, (observed("child", CHILD, Counts()),)), snapshot()
    )
    assert shown(table.counts(compared)).splitlines()[1].split() == [
        "child", "101", "copied", "0", "0", "0", "ok",
    ]  # fmt: skip


def test_an_unknown_count_is_not_called_ok() -> None:
    parent = observed("parent", PARENT, Counts(shared=None), shared=23)
    compared = comparison(Outcome("shared-writes", 23, 4096, (parent,)), snapshot())
    assert shown(table.counts(compared)).splitlines()[1] == (
        "parent   100  shared        23       -        -  -"
    )
    assert shown(table.verdict(compared)).splitlines()[0] == (
        "shared-writes: as expected, as far as this plan can show"
    )


def test_tables_fit_80_columns() -> None:
    huge = Counts(10**12, 10**12, 10**12, 10**12, None)
    role = Expected(role="grandchild", copied=10**12)
    big = Observed("grandchild", 4_194_304, role, huge, 1, 1, True)
    compared = comparison(Outcome("fork-both-write", 10**12, 4096, (big,)), snapshot())
    for view in (
        table.counts(compared, every_kind=True),
        table.verdict(compared),
        table.catalogue(WORKLOADS.values()),
    ):
        assert max(map(len, shown(view).splitlines())) <= 80


def test_as_json() -> None:
    fields = comparison(OUTCOME, TRACED).as_dict()
    assert fields["ok"] is True
    assert fields["rows"][0] == {
        "role": "parent",
        "pid": PARENT,
        "kind": "copied",
        "expected": 0,
        "traced": 0,
        "pagemap": 0,
        "upper_bound": False,
        "ok": True,
    }


def test_faults_that_fail_as_they_should_are_no_mismatch() -> None:
    failed = ExpectedRow(FaultKind.FAILED, Source.ANON, Origin.USER, 1)
    child = observed("child", CHILD, Counts(copied=22), copied=22, rows=(failed,))
    ran = Outcome("memory-limit", 23, 4096, (child,))
    compared = comparison(ran, snapshot(process(CHILD, copied=22, failed=1)))
    assert (compared.failed, compared.ok) == (0, True)
    plain_child = observed("child", CHILD, Counts(copied=22), copied=22)
    ran = Outcome("memory-limit", 23, 4096, (plain_child,))
    assert comparison(ran, snapshot(process(CHILD, copied=22, failed=1))).failed == 1


def test_where_threads_race_their_faults_cannot_be_counted_by_the_kernel() -> None:
    child = observed("child", CHILD, Counts(copied=23), copied=23)
    oracles = {
        races: {one.oracle for one in evidence((child,), races=races)} for races in (False, True)
    }
    assert oracles[False] == {"pagemap", "taskstats", "rusage", "data"}
    assert oracles[True] == {"pagemap", "data"}


@pytest.mark.parametrize(("counted", "ok"), [(22, False), (23, True), (31, True), (None, None)])
def test_the_kernel_counts_no_fewer_re_marks(counted: int | None, ok: bool | None) -> None:
    """It counts those of all processes."""
    ran = dataclasses.replace(observed("parent", PARENT, None, reused=23), re_marks=counted)
    (found,) = [one for one in evidence((ran,), races=False) if one.oracle == "vmstat"]
    assert (found.expected, found.observed, found.ok) == (23, counted, ok)


@pytest.mark.parametrize("source", [Source.HUGETLB, Source.THP])
def test_the_kernel_does_not_count_re_marks_of_huge_entries(source: Source) -> None:
    row = ExpectedRow(FaultKind.REUSED, source, Origin.USER, 1, 0)
    ran = observed("parent", PARENT, None, reused=1, rows=(row,))
    assert "vmstat" not in {one.oracle for one in evidence((ran,), races=False)}


@pytest.mark.parametrize(("copied", "code"), [(23, 0), (22, EXIT_MISMATCH)])
def test_the_command_fails_where_counts_differ(
    monkeypatch: pytest.MonkeyPatch, copied: int, code: int
) -> None:
    live = FakeTracer(snapshot(process(PARENT, reused=23), process(CHILD, copied=copied)))
    monkeypatch.setattr(tracer, "attach", lambda *_, **options: live)
    monkeypatch.setattr(workloads, "run", lambda name, pages: OUTCOME)
    ran = CliRunner().invoke(main, ["workload", "fork-both-write", "--pages", "23"])
    assert ran.exit_code == code, ran.output
