"""`cowtrace verify` over a made-up tracer and made-up checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_checks import check, count
from snapshots import FakeTracer, snapshot

import cowtrace.tracer
from cowtrace import cli
from cowtrace.errors import (
    EXIT_FAILURE,
    EXIT_MISMATCH,
    EXIT_NO_PLAN,
    EXIT_NO_VM,
    EXIT_USAGE,
    CowtraceError,
)
from cowtrace.verify import session, vms
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.groups import groups, title
from cowtrace.vm import build
from cowtrace.workloads.workload import WORKLOADS

HOLDING = (
    check(),
    check("C6", name="fork-both-write", findings=("only marked writable: 23 of 23",)),
)
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


def in_vms(monkeypatch: pytest.MonkeyPatch, checks_on: Any) -> None:
    """VMs that are built, and make these checks."""
    monkeypatch.setattr(vms, "checks_on", checks_on)
    monkeypatch.setattr(vms, "versions", lambda known, kernel: (f"{kernel}: exactly",))
    monkeypatch.setattr(build, "missing", lambda known, names, **_: [])


def test_kernels_make_a_matrix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    booted: list[Any] = []

    def checks_on(kernel: str, arguments: Any, options: Any) -> Iterator[Check]:
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
    def checks_on(kernel: str, arguments: Any, options: Any) -> Iterator[Check]:
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
    shown = run(monkeypatch, "--list").stdout.splitlines()
    assert {title(group.name) for group in groups(WORKLOADS)} <= {*shown}
    lines = run(monkeypatch, "--list", "--json", "C1").stdout.splitlines()
    assert [json.loads(line)["group"] for line in lines] == ["C1"]


def by_plan(monkeypatch: pytest.MonkeyPatch, **refused: str) -> list[str]:
    """Tracers by plan, of which some cannot run; returns the list of those that ran."""
    ran: list[str] = []

    def attach(plan: str, **_: Any) -> FakeTracer:
        if plan in refused:
            raise CowtraceError(refused[plan], hint="look", exit_code=EXIT_NO_PLAN)
        ran.append(plan)
        live = FakeTracer(snapshot(plan=plan))
        live.plan = plan
        return live

    def checks(groups: object, tracer: Any) -> Iterator[Check]:
        plan = tracer().plan
        kind = "copied" if plan != "tracepoint" else "reused"
        yield check("C6", plan=plan, counts=(count(kind),))

    monkeypatch.setattr(cowtrace.tracer, "attach", attach)
    monkeypatch.setattr(session, "checks", checks)
    return ran


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, ["verify", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_each_plan_runs_each_check_and_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = by_plan(monkeypatch)
    result = invoke("--plans", "all")
    assert ran == ["fentry", "kprobe", "tracepoint"]
    assert result.exit_code == EXIT_MISMATCH
    assert [line for line in result.stdout.splitlines() if line.startswith("plan ")][0::2] == [
        "plan fentry", "plan kprobe", "plan tracepoint"
    ]  # fmt: skip
    words = "child: fentry copies 23 of 23 pages, tracepoint re-marks them"
    assert words in " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= 80
    rows = [json.loads(line) for line in invoke("--plans", "all", "--json").stdout.splitlines()]
    assert [row.get("plan") for row in rows] == ["fentry", "kprobe", "tracepoint", None]
    assert (rows[3]["change"], rows[3]["between"]) == (
        "plans differ", ["fentry", "kprobe", "tracepoint"]
    )  # fmt: skip
    assert invoke("--plans", "kprobe,fentry").exit_code == 0
    assert ran[-2:] == ["kprobe", "fentry"]


def test_all_plans_are_those_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = by_plan(monkeypatch, fentry="no BTF", kprobe="no kprobes")
    result = invoke("--plans", "all")
    assert (ran, result.exit_code) == (["tracepoint"], 0)
    assert "cowtrace: no BTF\ncowtrace: no kprobes\n" in result.stderr
    named = invoke("--plans", "kprobe,tracepoint")
    assert (named.exit_code, named.stderr) == (
        EXIT_NO_PLAN, "cowtrace: no kprobes\nHint: look\n"
    )  # fmt: skip
    by_plan(monkeypatch, fentry="no BTF", kprobe="no kprobes", tracepoint="no tracepoints")
    assert invoke("--plans", "all").exit_code == EXIT_NO_PLAN


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plans", "fexit"], "there is no plan 'fexit'"),
        (["--plans", "all", "--attach", "kprobe"], "--plans and --attach cannot be combined"),
        (["--update"], "--update needs --baseline"),
        (["--compare", "6.1", "7.2", "--kernel", "6.1"], "--compare and --kernel"),
        (["--compare", "6.1", "7.2", "--baseline", "a.json"], "--compare and --baseline"),
        (["--compare", "6.1", "6.1"], "these are the same"),
        (["--compare", "6.1", "6.13"], "the test VM has no kernel '6.13'"),
        (["--ktap", "-", "--json"], "--ktap - and --json cannot be combined"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (EXIT_USAGE, "")
    assert message in result.stderr
    assert "Hint: " in result.stderr


def of_kernels(monkeypatch: pytest.MonkeyPatch, **checks: tuple[Check, ...]) -> None:
    """VMs whose kernels, named k61 for 6.1, make these checks."""
    in_vms(monkeypatch, lambda kernel, *_: iter(checks["k" + kernel.replace(".", "")]))


COPIES = (check("C4", counts=(count(),)), check("C1", name="same"))
RE_MARKS = (check("C4", counts=(count("reused"),)), check("C1", name="same"))


def test_two_kernels_are_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    of_kernels(monkeypatch, k61=COPIES, k72=RE_MARKS, k510=COPIES)
    result = invoke("--compare", "6.1", "7.2", "--html", str(tmp_path / "a.html"))
    assert result.exit_code == EXIT_MISMATCH
    assert "child: 6.1 copies 23 of 23 pages, 7.2 re-marks them" in result.stdout
    assert "6.1 and 7.2 differ in 1 of 2 checks\n" in result.stdout
    assert "holds" not in result.stdout
    assert "7.2 re-marks them" in (tmp_path / "a.html").read_text()
    (row,) = invoke("--compare", "6.1", "7.2", "--json").stdout.splitlines()
    assert json.loads(row)["between"] == ["6.1", "7.2"]
    assert invoke("--compare", "6.1", "7.2", "--csv").stdout.startswith("change,group,name,words,")
    same = invoke("--compare", "6.1", "5.10")
    assert (same.exit_code, "differ in none of 2 checks" in same.stdout) == (0, True)


def test_this_machine_and_saved_results_can_be_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    of_kernels(monkeypatch, k61=COPIES, k72=RE_MARKS)
    file = str(tmp_path / "a.json")
    assert invoke("--kernel", "6.1", "--kernel", "7.2", "--baseline", file).exit_code == 0
    result = run(monkeypatch, "--compare", f"{file}:7.2", "here", checks=COPIES)
    assert result.exit_code == EXIT_MISMATCH
    assert "here copies" in " ".join(result.stdout.split())
    assert run(monkeypatch, "--compare", f"{file}:6.1", "here", checks=COPIES).exit_code == 0
    started: list[str] = []
    monkeypatch.setattr(session, "checks", lambda *_: started.append("here"))
    in_vms(monkeypatch, lambda *_: started.append("vm"))
    assert invoke("--compare", f"{file}:6.1", f"{file}:7.2").exit_code == EXIT_MISMATCH
    # Only what is named is compared.
    assert invoke("C1", "--compare", f"{file}:6.1", f"{file}:7.2").exit_code == 0
    assert started == []


@pytest.mark.parametrize(
    ("end", "message", "hint"),
    [
        ("", "a.json has 2 kernels", "name one of 6.1, 7.2: "),
        (":9", "a.json has no kernel 9", "name one of 6.1, 7.2: "),
        ("x.json", "there is no file", "keep results in one"),
    ],
)
def test_a_side_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str, message: str, hint: str
) -> None:
    of_kernels(monkeypatch, k61=COPIES, k72=RE_MARKS)
    file = tmp_path / "a.json"
    invoke("--kernel", "6.1", "--kernel", "7.2", "--baseline", str(file))
    name = str(tmp_path / "missing.json") if end == "x.json" else f"{file}{end}"
    result = invoke("--compare", name, "6.1")
    assert result.exit_code in (EXIT_USAGE, EXIT_FAILURE)
    first, second = result.stderr.splitlines()
    assert message in first
    assert second.startswith(f"Hint: {hint}")


def test_a_baseline_is_created_compared_and_replaced_when_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "a.json"
    first = run(monkeypatch, "--baseline", str(file))
    assert first.exit_code == 0
    assert "the results are kept in" in first.stderr
    kept = file.read_text()
    assert "no change, of 2 checks" in run(monkeypatch, "--baseline", str(file)).stdout
    worse = run(monkeypatch, "--baseline", str(file), checks=FAILING)
    assert worse.exit_code == EXIT_MISMATCH
    assert "      new  fork-read-only: only now has it: does not hold" in worse.stdout
    assert file.read_text() == kept
    gone = run(monkeypatch, "--baseline", str(file), checks=HOLDING[:1])
    assert (gone.exit_code, "1 gone" in gone.stdout) == (EXIT_MISMATCH, True)
    rows = run(monkeypatch, "--baseline", str(file), "--json", checks=FAILING).stdout.splitlines()
    assert [json.loads(row).get("change") for row in rows] == [None, None, None, "new"]
    assert run(monkeypatch, "--baseline", str(file), "--update", checks=FAILING).exit_code == 0
    assert file.read_text() != kept
    # What did not hold before is no reason to fail.
    assert run(monkeypatch, "--baseline", str(file), checks=FAILING).exit_code == 0
    assert run(monkeypatch, checks=FAILING).exit_code == EXIT_MISMATCH


def test_a_kernel_that_stops_is_kept_in_no_baseline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def checks_on(kernel: str, arguments: Any, options: Any) -> Iterator[Check]:
        yield HOLDING[0]
        raise CowtraceError("kernel 5.10 stopped", hint="look", exit_code=EXIT_NO_VM)

    in_vms(monkeypatch, checks_on)
    file, tap = tmp_path / "a.json", tmp_path / "a.ktap"
    result = invoke("--kernel", "5.10", "--baseline", str(file), "--ktap", str(tap))
    assert result.exit_code == EXIT_NO_VM
    assert not file.exists()
    assert "# ERROR kernel 5.10 stopped" in tap.read_text()


def test_a_baseline_that_cannot_be_used_is_said_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "a.json"
    file.write_text("{}")
    result = run(monkeypatch, "--baseline", str(file), "--update")
    assert (result.exit_code, result.stdout) == (EXIT_FAILURE, "")
    assert "is not a matrix of cowtrace verify" in result.stderr
    assert file.read_text() == "{}"


def test_ktap_on_stdout_is_alone_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run(monkeypatch, "--ktap", "-", "--baseline", str(tmp_path / "a.json"))
    assert result.exit_code == 0
    assert result.stdout.startswith("KTAP version 1\n1..1\n  KTAP version 1\n")
    assert result.stdout.splitlines()[-1].startswith("ok 1 ")
    again = run(monkeypatch, "--ktap", "-", "--baseline", str(tmp_path / "a.json"))
    assert "no change" in again.stderr
    assert again.stdout == result.stdout
