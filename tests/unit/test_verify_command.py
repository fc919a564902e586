"""`cowtrace verify` over a made-up tracer and made-up checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_checks import check
from snapshots import FakeTracer, snapshot

import cowtrace.tracer
from cowtrace import cli
from cowtrace.errors import EXIT_FAILURE, EXIT_MISMATCH, EXIT_NO_VM, EXIT_USAGE, CowtraceError
from cowtrace.verify import session, vms
from cowtrace.verify.check import Check, Verdict
from cowtrace.vm import build

HOLDING = (check(), check("C6", findings=("only marked writable: 23 of 23",)))
FAILING = (*HOLDING, check("C2", Verdict.FAILS))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, checks: Any = HOLDING) -> Result:
    live = FakeTracer(snapshot())
    monkeypatch.setattr(cowtrace.tracer, "attach", lambda *_, **__: live)
    monkeypatch.setattr(session, "checks", lambda groups, tracer: iter(checks))
    result = CliRunner().invoke(cli.main, ["verify", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_all_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch)
    assert result.exit_code == 0
    assert "C1 fork copies no data" in result.stdout
    assert "only marked writable" in result.stdout
    assert "2 hold" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_one_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, checks=FAILING)
    assert result.exit_code == EXIT_MISMATCH
    assert "1 does not hold" in result.stdout


def test_json_is_an_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, "--json", checks=FAILING)
    assert result.exit_code == EXIT_MISMATCH
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["verdict"] for one in objects] == ["holds", "holds", "does not hold"]
    assert {one["kernel"] for one in objects} == {"6.12.43+deb13-cloud-amd64"}


def test_reports_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    html, xml = tmp_path / "a.html", tmp_path / "b.xml"
    run(monkeypatch, "--html", str(html), "--junit", str(xml))
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert xml.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["C9"], EXIT_USAGE, "no claim or path is named 'C9'"),
        (["--kernel", "6.13"], EXIT_USAGE, "the test VM has no kernel '6.13'"),
        (["--html", "/no/such/folder/a.html"], EXIT_FAILURE, "cannot write /no/such/folder"),
        (["--junit", "/proc/version"], EXIT_FAILURE, "cannot write /proc/version"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    result = run(monkeypatch, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    first, second = result.stderr.splitlines()
    assert first.startswith(f"cowtrace: {message}")
    assert second.startswith("Hint: ")


def test_a_report_that_cannot_be_made_leaves_no_empty_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept, new = tmp_path / "kept.html", tmp_path / "new.xml"
    kept.write_text("before")

    def interrupted(groups: object, tracer: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cowtrace.tracer, "attach", lambda *_, **__: FakeTracer(snapshot()))
    monkeypatch.setattr(session, "checks", interrupted)
    arguments = ["verify", "--html", str(kept), "--junit", str(new)]
    assert CliRunner().invoke(cli.main, arguments).exit_code == 130
    assert kept.read_text() == "before"
    assert not new.exists()


def in_vms(monkeypatch: pytest.MonkeyPatch, checks_on: Any) -> None:
    """VMs that are built, and make these checks."""
    monkeypatch.setattr(vms, "checks_on", checks_on)
    monkeypatch.setattr(vms, "versions", lambda known, kernel: (f"{kernel}: exactly",))
    monkeypatch.setattr(build, "missing", lambda known, names, **_: [])


def test_kernels_make_a_matrix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    booted: list[Any] = []

    def checks_on(kernel: str, arguments: Any) -> Iterator[Check]:
        booted.append((kernel, tuple(arguments)))
        yield from FAILING

    in_vms(monkeypatch, checks_on)
    xml = tmp_path / "a.xml"
    arguments = ["C1", "--kernel", "5.10", "--kernel", "6.12", "--kernel", "5.10"]
    result = run(monkeypatch, *arguments, "--attach", "kprobe", "--junit", str(xml))
    assert result.exit_code == EXIT_MISMATCH
    wanted = ("C1", "--attach", "kprobe")
    assert booted == [("5.10", wanted), ("6.12", wanted)]
    assert result.stdout.splitlines()[0].split()[-2:] == ["5.10", "6.12"]
    assert "5.10: exactly" in result.stdout
    assert "booting" in result.stderr
    assert xml.read_text().count("<testsuite ") == 2
    as_json = run(monkeypatch, *arguments, "--json")
    assert [json.loads(line)["vm"] for line in as_json.stdout.splitlines()] == [
        *["5.10"] * 3,
        *["6.12"] * 3,
    ]


def test_a_kernel_that_stops_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def checks_on(kernel: str, arguments: Any) -> Iterator[Check]:
        yield HOLDING[0]
        if kernel == "5.10":
            raise CowtraceError("kernel 5.10 stopped", hint="look", exit_code=EXIT_NO_VM)
        yield HOLDING[1]

    in_vms(monkeypatch, checks_on)
    result = run(monkeypatch, "--kernel", "5.10", "--kernel", "6.12")
    assert result.exit_code == EXIT_NO_VM
    assert result.stderr.endswith("cowtrace: kernel 5.10 stopped\nHint: look\n")
    rows = [line.split()[-2:] for line in result.stdout.splitlines()[1:3]]
    assert rows == [["holds", "holds"], ["-", "holds"]]


def test_the_list_names_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(monkeypatch, "--list").stdout
    assert "C8 a private file's page is copied" in shown
    lines = run(monkeypatch, "--list", "--json", "C1").stdout.splitlines()
    assert [json.loads(line)["group"] for line in lines] == ["C1"]
