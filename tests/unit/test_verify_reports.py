"""KTAP and JUnit of `cowtrace verify` while it runs, and when something ends it early."""

from __future__ import annotations

import os
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_checks import check
from test_verify_command import HOLDING, in_vms, invoke, run
from test_verify_ktap import parse

import cowtrace.tracer
from cowtrace.errors import EXIT_NO_PLAN, EXIT_NO_VM, CowtraceError
from cowtrace.verify.check import Check

ENDED = "all checks were made"


def suites(file: Path) -> dict[str, tuple[int, str]]:
    """Of each kernel in JUnit: how many cases it has, and why its checks are incomplete."""
    found = {}
    for suite in ET.parse(file).iter("testsuite"):
        errors = [error.get("message", "") for error in suite.iter("error")]
        assert int(suite.get("errors", "0")) == len(errors) <= 1
        found[suite.get("name", "")] = (int(suite.get("tests", "0")), "".join(errors))
    return found


def made_until(end: Callable[[], None]) -> Callable[..., Iterator[Check]]:
    """VMs: 5.10 makes all checks, 6.1 makes one of two, then `end` is called."""

    def checks_on(kernel: str, *_: Any) -> Iterator[Check]:
        yield HOLDING[0]
        if kernel == "6.1":
            end()
        yield HOLDING[1]

    return checks_on


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


KERNELS = ("--kernel", "5.10", "--kernel", "6.1", "--kernel", "7.2")
CLAIMS = ("C1", "C6")


def test_ktap_is_in_its_file_as_each_check_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "a.ktap"
    file.write_text("of an earlier run")
    seen: list[list[str]] = []

    def checks() -> Iterator[Check]:
        for each in HOLDING:
            seen.append(file.read_text().splitlines())
            yield each
        seen.append(file.read_text().splitlines())

    assert run(monkeypatch, *CLAIMS, "--ktap", str(file), checks=checks()).exit_code == 0
    assert seen[0][:2] == ["KTAP version 1", "1..1"]
    assert seen[0][-1] == "  1..3"
    assert seen[1][-1] == "    ok 1 fork-read-only"
    assert seen[2][-1] == "    ok 1 fork-both-write"
    found = parse(file.read_text())
    assert [each.result for each in found.tests[0].tests] == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    ("end", "code", "reason"),
    [
        (interrupt, 128 + signal.SIGINT, "the run was interrupted"),
        (terminate, 128 + signal.SIGTERM, "the run was ended by SIGTERM"),
    ],
)
def test_a_run_that_is_ended_says_what_was_seen(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    end: Callable[[], None],
    code: int,
    reason: str,
) -> None:
    in_vms(monkeypatch, made_until(end))
    html, xml, tap, kept = (tmp_path / f"a.{kind}" for kind in ("html", "xml", "ktap", "json"))
    html.write_text("before")
    before = signal.getsignal(signal.SIGTERM)
    files = ("--html", str(html), "--junit", str(xml), "--ktap", str(tap), "--baseline", str(kept))
    assert invoke(*CLAIMS, *KERNELS, *files).exit_code == code
    assert signal.getsignal(signal.SIGTERM) is before
    assert suites(xml) == {
        "kernel 5.10": (2, ""), "kernel 6.1": (2, reason), "kernel 7.2": (1, reason)
    }  # fmt: skip
    found = parse(tap.read_text())
    assert [(each.name, each.result) for each in found.tests] == [
        ("5.10", "ok"), ("6.1", "not ok"), ("7.2", "ERROR")
    ]  # fmt: skip
    assert found.at("6.1", ENDED).reason == found.at("7.2").reason == reason
    assert found.at("6.1", ENDED).notes == ["next: fork-protects"]
    assert html.read_text() == "before"
    assert not kept.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"a.html", "a.xml", "a.ktap"}


def test_a_vm_that_fails_is_said_in_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail() -> None:
        raise CowtraceError("kernel 6.1 stopped", hint="look", exit_code=EXIT_NO_VM)

    in_vms(monkeypatch, made_until(fail))
    xml, tap = tmp_path / "a.xml", tmp_path / "a.ktap"
    result = invoke(*CLAIMS, *KERNELS, "--junit", str(xml), "--ktap", str(tap))
    assert result.exit_code == EXIT_NO_VM
    assert suites(xml) == {
        "kernel 5.10": (2, ""), "kernel 6.1": (2, "kernel 6.1 stopped"), "kernel 7.2": (2, "")
    }  # fmt: skip
    found = parse(tap.read_text())
    assert [each.result for each in found.tests] == ["ok", "not ok", "ok"]
    assert found.at("6.1", ENDED).reason == "kernel 6.1 stopped"


def test_a_machine_on_which_no_plan_runs_has_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def attach(*_: Any, **__: Any) -> None:
        raise CowtraceError("no plan runs here", hint="look", exit_code=EXIT_NO_PLAN)

    monkeypatch.setattr(cowtrace.tracer, "attach", attach)
    xml, tap = tmp_path / "a.xml", tmp_path / "a.ktap"
    result = invoke(*CLAIMS, "--junit", str(xml), "--ktap", str(tap))
    assert (result.exit_code, result.stderr) == (
        EXIT_NO_PLAN, "cowtrace: no plan runs here\nHint: look\n"
    )  # fmt: skip
    assert [*suites(xml).values()] == [(1, "no plan runs here")]
    (here,) = parse(tap.read_text()).tests
    assert here.at(ENDED).reason == "no plan runs here"


def test_a_check_that_was_not_asked_for_stops_its_kernel_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def checks_on(kernel: str, *_: Any) -> Iterator[Check]:
        yield from (check("C7"), HOLDING[1]) if kernel == "6.1" else HOLDING

    in_vms(monkeypatch, checks_on)
    tap = tmp_path / "a.ktap"
    assert invoke(*CLAIMS, *KERNELS, "--ktap", str(tap)).exit_code != 0
    found = parse(tap.read_text())
    assert [each.result for each in found.tests] == ["ok", "not ok", "ok"]
    assert "is no check that comes now" in (found.at("6.1", ENDED).reason or "")


def test_both_sides_of_a_comparison_are_in_the_document(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, tap = tmp_path / "a.json", tmp_path / "a.ktap"
    in_vms(monkeypatch, lambda *_: iter(HOLDING))
    assert invoke(*CLAIMS, "--kernel", "6.1", "--baseline", str(file)).exit_code == 0
    result = invoke(*CLAIMS, "--compare", "7.2", f"{file}:6.1", "--ktap", str(tap))
    assert result.exit_code == 0
    found = parse(tap.read_text())
    assert [(each.name, each.result) for each in found.tests] == [("6.1", "ok"), ("7.2", "ok")]
    assert [len(each.tests) for each in found.tests] == [3, 3]
