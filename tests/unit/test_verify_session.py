"""Groups by name; a session over a made-up tracer; the VM's checks over a made-up command."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from made_checks import check, outcome, trace
from snapshots import FakeTracer, snapshot

from cowtrace.errors import EXIT_NO_PLAN, EXIT_USAGE, CowtraceError
from cowtrace.verify import session, vms
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.groups import CLAIMS, choose, groups, title
from cowtrace.verify.session import checks
from cowtrace.vm import host_programs
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import Outcome
from cowtrace.workloads.workload import WORKLOADS

KNOWN = groups(WORKLOADS)


def test_every_claim_has_a_workload_and_every_workload_a_sentence() -> None:
    assert [group.name for group in KNOWN[:8]] == list(CLAIMS)
    for group in KNOWN:
        for workload in group.workloads:
            assert workload.claim, workload.name
            assert "\n" not in workload.claim


def test_titles_fit_the_matrix() -> None:
    assert all(len(title(group.name)) <= 80 - 4 * 9 - 1 for group in KNOWN)


def test_all_groups_without_a_name() -> None:
    assert choose(KNOWN, []) == KNOWN


@pytest.mark.parametrize("names", [["c6", "C1"], ["zero-page"], ["ZERO page", "zero_page"]])
def test_groups_by_name(names: list[str]) -> None:
    found = [group.name for group in choose(KNOWN, names)]
    assert found == (["C1", "C6"] if len(names[0]) == 2 else ["zero page"])


@pytest.mark.parametrize(("name", "near"), [("C9", "C"), ("zero pge", "zero-page")])
def test_an_unknown_group_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(CowtraceError, match=name) as failure:
        choose(KNOWN, ["C1", name])
    assert f"did you mean {near}" in failure.value.hint
    assert failure.value.exit_code == EXIT_USAGE


def test_a_name_like_no_other_suggests_the_list() -> None:
    with pytest.raises(CowtraceError) as failure:
        choose(KNOWN, ["%%%"])
    assert failure.value.hint == "all of them: cowtrace verify --list"


def made(run: Any) -> list[Check]:
    live = FakeTracer(snapshot(), trace()).snapshot
    group = next(group for group in KNOWN if group.name == "C6")
    only = type(group)("C6", (WORKLOADS["fork-both-write"],))
    return list(checks([only], live, pages=23, run=run))


def test_a_session_runs_and_judges() -> None:
    asked = []

    def run(name: str, pages: int) -> Outcome:
        asked.append((name, pages))
        return outcome()

    (one,) = made(run)
    assert asked == [("fork-both-write", 23)]
    assert (one.verdict, one.group) == (Verdict.HOLDS, "C6")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (Unsupported("no hugetlb pool can be had"), Verdict.UNSEEN),
        (CowtraceError("it was killed", hint="fewer pages"), Verdict.FAILS),
    ],
)
def test_what_cannot_run_is_a_verdict(error: CowtraceError, verdict: Verdict) -> None:
    def run(name: str, pages: int) -> Outcome:
        raise error

    (one,) = made(run)
    assert (one.verdict, one.why) == (verdict, str(error))


def test_more_than_memory_holds_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object) -> None:
        raise CowtraceError("1 pages are more than memory holds", hint="fewer")

    monkeypatch.setattr(session, "check_pages", too_much)
    (one,) = made(lambda name, pages: outcome())
    assert (one.verdict, one.why) == (Verdict.UNSEEN, "1 pages are more than memory holds")


def in_vm(monkeypatch: pytest.MonkeyPatch, script: str) -> tuple[Check, ...]:
    """Checks of a VM that a Python script stands for."""
    monkeypatch.setattr(host_programs, "tied", lambda argv: [sys.executable, "-c", script, *argv])
    return tuple(vms.checks_on("6.12", ("C1",)))


LINES = [json.dumps(one.as_dict()) for one in (check(), check("C2", Verdict.FAILS))]


@pytest.mark.parametrize("code", [0, 4])
def test_the_vms_checks_come_back(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    script = f"print({LINES[0]!r}); print({LINES[1]!r}); raise SystemExit({code})"
    assert [one.group for one in in_vm(monkeypatch, script)] == ["C1", "C2"]


def test_the_vm_is_asked_for_json(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import sys, json\n"
        f"fields = json.loads({LINES[0]!r})\n"
        "print(json.dumps({**fields, 'why': ' '.join(sys.argv)}))"
    )
    (one,) = in_vm(monkeypatch, script)
    assert one.why.endswith("6.12 -- cowtrace verify --json C1")


@pytest.mark.parametrize(
    ("script", "code", "message", "hint"),
    [
        (
            "import sys; print('cowtrace: no plan\\nHint: doctor', file=sys.stderr); sys.exit(3)",
            EXIT_NO_PLAN,
            "verify on kernel 6.12 failed: no plan",
            "doctor",
        ),
        ("raise SystemExit(7)", 7, "verify on kernel 6.12 failed: exit code 7", "run it alone"),
        ("pass", 5, "verify on kernel 6.12 failed: exit code 0", "run it alone"),
        ("print('Oops')", 5, "kernel 6.12: not a check: 'Oops'", "run it alone"),
    ],
)
def test_a_vm_that_fails(
    monkeypatch: pytest.MonkeyPatch, script: str, code: int, message: str, hint: str
) -> None:
    with pytest.raises(CowtraceError) as failure:
        in_vm(monkeypatch, script)
    assert (str(failure.value), failure.value.exit_code) == (message, code)
    assert failure.value.hint.startswith(hint)
