"""What commands write with --json, against the schema; and with --csv, against their --json."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_checks import check as made_check
from made_checks import count as made_count
from made_recordings import EVIL, write
from snapshots import FakeTracer, calls, detail, event, fork, mapping, process, row, snapshot

sys.path.insert(0, str(Path(__file__).parents[1]))

from schema_checks import check

from cowtrace import tracer
from cowtrace.analysis.cost import Cost
from cowtrace.cli import main
from cowtrace.errors import EXIT_USAGE
from cowtrace.machine import schema
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.detail_objects import cost_object
from cowtrace.model import (
    Completeness,
    Event,
    FaultKind,
    FaultRow,
    MappingType,
    Origin,
    PageFaults,
    Phase,
    Snapshot,
    Source,
    WriteCause,
    Written,
)
from cowtrace.text import printable
from cowtrace.verify import change_report, session
from cowtrace.verify.check import Verdict
from cowtrace.verify.differences import differences
from cowtrace.verify.matrix import KernelChecks

ME = os.getpid()
COST = Cost("top, run", "kprobe", (), 23, 23, 31, 9300, 40, 1000.0, 1100.0, 0.5)


def rich(at: float, pages: int) -> Snapshot:
    """Whatever a snapshot can have, and what can be missing in it."""
    copied = detail(
        ME, faults=pages, mapping=mapping(type=MappingType.HEAP), user_stack=calls("f", "main"),
        latency=11, ns=pages * 3000, generation=1, source=Source.THP, eighth=3,
        written=Written(WriteCause.REFERENCE_COUNT, EVIL, Phase.RUNNING),
    )  # fmt: skip
    unknown = detail(2, faults=7, source=Source.UNKNOWN, mapping=mapping(EVIL))
    remote = FaultRow(FaultKind.COPIED, Source.UNKNOWN, Origin.REMOTE, 9, 1, 4096)
    return replace(
        snapshot(
            process(ME, EVIL, row(FaultKind.COPIED, pages), remote,
                    page_faults=PageFaults(1, 2, 3)),
            process(2, "=1+1", row(FaultKind.REUSED, 7), parent=ME, exited=True,
                    unseen=frozenset({FaultKind.COPIED, FaultKind.FILE_COPIED})),
            at=at, completeness=Completeness(1, (("slot taken", 1),)),
            unseen=frozenset({FaultKind.SHARED}),
        ),
        details=(copied, unknown), samples=(copied,),
        generations=(
            fork(1, ME, 2, by_parent=pages),
            fork(2, 8, 9, shareable=None),
            fork(3, 8, 10, ended=0.9),
        ),
    )  # fmt: skip


Command = Callable[..., Result]


@pytest.fixture
def cowtrace(monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str | Path) -> Result:
        faults: tuple[Event, ...] = (
            event(),
            event(mapping=mapping(EVIL), source=Source.UNKNOWN, ns=None, comm="-x"),
        )
        live = FakeTracer(rich(1, 23), rich(2, 503), events=faults)
        monkeypatch.setattr(tracer, "attach", lambda *_, **__: live)
        result = CliRunner().invoke(main, [str(each) for each in arguments])
        assert result.exit_code == 0, result.output
        return result

    return run


LIVE = {
    "top": ("processes", ("0.05", "2")),
    "maps": ("mappings", ("0.05", "2")),
    "forks": ("generations", ("0.05", "2")),
    "latency": ("latency", ("0.05", "2")),
    "stacks": ("stacks", ("0.05", "2")),
    "objects": ("objects", ("0.05", "2")),
}


@pytest.mark.parametrize("name", LIVE)
def test_live_views(cowtrace: Command, name: str) -> None:
    assert check(name, cowtrace(name, "--json", "0.05", "2").stdout.splitlines()) == 2


def test_top_by_cgroup(cowtrace: Command) -> None:
    lines = cowtrace("top", "--by", "cgroup", "--json", "0.05", "2").stdout.splitlines()
    assert check("top-by-cgroup", lines) == 2


def test_top_with_latency(cowtrace: Command) -> None:
    (line,) = cowtrace("top", "--json", "--latency", "0.05", "1").stdout.splitlines()
    assert json.loads(line)["latency"]
    assert check("top", [line]) == 1


def test_snoop(cowtrace: Command) -> None:
    shown = cowtrace("snoop", "--json", "-n", "2").stdout.splitlines()
    assert check("snoop", [*shown, {"dropped": 23}]) == 3


@pytest.mark.parametrize("more", [{}, {"lost": 3, "plan": "tracepoint"}, {"details": frozenset()}])
def test_report_and_diff(cowtrace: Command, tmp_path: Path, more: dict[str, Any]) -> None:
    one = write(tmp_path / "a", available=1 << 30)
    other = write(tmp_path / "b", close=False, **more)
    for each in (one, other):
        assert check("report", [cowtrace("report", "--json", each).stdout]) == 1
    assert check("diff", [cowtrace("diff", "--json", one, other).stdout]) == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("workload-list", ["workload", "--list"]),
        ("verify-list", ["verify", "--list"]),
        ("vm-list", ["vm", "list"]),
    ],
)
def test_lists(cowtrace: Command, name: str, arguments: list[str]) -> None:
    assert check(name, cowtrace(*arguments, "--json").stdout.splitlines()) > 3


def test_verify(cowtrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "checks", lambda groups, live: iter([made_check()]))
    line = cowtrace("verify", "--json").stdout
    assert check("verify", [line, {**json.loads(line), "vm": "6.12"}]) == 2
    counted = made_check(counts=(made_count(), made_count("reused", None, expected=None)))
    assert check("verify", [json.dumps(counted.as_dict())]) == 1


def test_differences_of_verify() -> None:
    worse = made_check(verdict=Verdict.FAILS)
    found = differences([made_check(), made_check("C2")], [worse], ("6.1", "7.2"))
    rows = [*change_report.objects(found, "7.2", ("6.1", "7.2"))]
    other = replace(worse, plan="fentry")
    rows += change_report.plan_objects(KernelChecks("7.2", (made_check(), other), ()))
    assert check("verify-change", [json.dumps(row) for row in rows]) == 3


def test_costs() -> None:
    needs: list[dict[str, Any]] = []
    blind = replace(COST, bpf_ns=None, bpf_runs=None, faults=0)
    told = {"kernel": "6.12", "requirements": needs, "plans": needs, "auto": None, "why": None}
    assert check("doctor", [told, {**told, "cost": [cost_object(COST), cost_object(blind)]}]) == 2
    assert cost_object(COST)["ns_per_fault"] == 300
    assert cost_object(COST)["cpu_share"] == pytest.approx(9300e-9 / 0.5)
    assert cost_object(blind)["ns_per_fault"] is None


def test_a_field_that_nobody_documented_is_a_failure(cowtrace: Command) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    told = json.loads(cowtrace("top", "--json", "0.05", "1").stdout)
    for broken in (
        {**told, "new": 1},
        {**told, "lost": "many"},
        {name: value for name, value in told.items() if name != "lost"},
        {**told, "processes": [{**told["processes"][0], "copied": "1"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            check("top", [broken])


def test_the_schema_is_printed_whole_or_of_one_command(cowtrace: Command) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    whole = json.loads(cowtrace("export", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(whole)
    assert set(schema.NAMES) <= whole["$defs"].keys()
    one = json.loads(cowtrace("export", "schema", "maps").stdout)
    told = json.loads(cowtrace("maps", "--json", "0.05", "1").stdout)
    jsonschema.validate(told, one)
    jsonschema.validate(told, whole)
    jsonschema.validate({**told, "of a newer cowtrace": 1}, one)  # fields are added
    result = CliRunner().invoke(main, ["export", "schema", "no\x1b"])
    assert result.exit_code == EXIT_USAGE
    assert "there are: diff, doctor" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("name", LIVE)
def test_csv_has_what_json_has(cowtrace: Command, name: str) -> None:
    field, arguments = LIVE[name]
    rows = [*csv.DictReader(io.StringIO(cowtrace(name, "--csv", *arguments).stdout))]
    lines = map(json.loads, cowtrace(name, "--json", *arguments).stdout.splitlines())
    told = [{**each, "now_ns": line["at_ns"]} for line in lines for each in line[field]]
    assert len(rows) == len(told) > 0
    for shown, wanted in zip(rows, told, strict=True):
        for column, value in shown.items():
            if column in ("lost", "lost_details", "unclassified") or column.endswith("comm"):
                continue
            assert cell(wanted[column]) == value, column
        assert shown["lost"] == "1"


def cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return json.dumps(value)
    return "" if value is None else printable(str(value))


def test_csv_of_hostile_names(cowtrace: Command) -> None:
    shown = cowtrace("top", "--csv", "0.05", "1").stdout
    names = {each["comm"] for each in csv.DictReader(io.StringIO(shown))}
    assert names == {printable(EVIL), "'=1+1"}
    assert "\x1b" not in shown
    stream = io.StringIO()
    hostile = ['a"b', "c,d", "e\nf", "g\udc80", "@h", "\ti", "+j", "-k", "\uff1dl"]
    CsvLines(stream).write({"name": name, "count": None} for name in hostile)
    read = [*csv.DictReader(io.StringIO(stream.getvalue()))]
    assert [each["name"] for each in read] == [
        'a"b', "c,d", "e\\x0af", "g\\x80", "'@h", "\\x09i", "'+j", "'-k", "'\uff1dl"
    ]  # fmt: skip
    assert {each["count"] for each in read} == {""}
    CsvLines(stream := io.StringIO()).write([{"what": ({"a": 1},)}])
    assert stream.getvalue() == 'what\n"[{""a"": 1}]"\n'
    assert CliRunner().invoke(main, ["top", "--csv", "--json"]).exit_code == EXIT_USAGE
    assert CliRunner().invoke(main, ["top", "--csv", "--latency"]).exit_code == EXIT_USAGE


def test_csv_of_single_faults(cowtrace: Command) -> None:
    rows = [*csv.DictReader(io.StringIO(cowtrace("snoop", "--csv", "-n", "2").stdout))]
    assert [each["kind"] for each in rows] == ["copied", "copied"]
    assert [each["ns"] for each in rows] == ["2710", ""]
    assert json.loads(rows[1]["mapping"])["name"] == f"[anon:{EVIL}]"


def test_csv_of_cgroups(cowtrace: Command) -> None:
    shown = cowtrace("top", "--by", "cgroup", "--csv", "0.05", "1").stdout
    (told,) = map(
        json.loads, cowtrace("top", "--by", "cgroup", "--json", "0.05", "1").stdout.splitlines()
    )
    rows = [*csv.DictReader(io.StringIO(shown))]
    assert [row["faults"] for row in rows] == [str(each["faults"]) for each in told["cgroups"]]


@pytest.mark.parametrize("command", [("workload", "--list"), ("verify", "--list"), ("vm", "list")])
def test_csv_of_lists(cowtrace: Command, command: tuple[str, ...]) -> None:
    rows = [*csv.DictReader(io.StringIO(cowtrace(*command, "--csv").stdout))]
    told = [json.loads(line) for line in cowtrace(*command, "--json").stdout.splitlines()]
    assert rows == [{name: cell(value) for name, value in each.items()} for each in told]


def test_csv_of_the_doctor(cowtrace: Command) -> None:
    needs = [*csv.DictReader(io.StringIO(CliRunner().invoke(main, ["doctor", "--csv"]).stdout))]
    assert needs[0]["name"] == "privileges"
    assert {need["found"] for need in needs} <= {"true", "false"}


def test_csv_of_report_and_diff(cowtrace: Command, tmp_path: Path) -> None:
    one, other = write(tmp_path / "a"), write(tmp_path / "b", scale=2)
    told = [*csv.DictReader(io.StringIO(cowtrace("report", "--csv", one).stdout))]
    (copied,) = [each for each in told if each["name"] == "copied"]
    assert (copied["number"], copied["unit"], copied["quality"]) == ("1", "bytes", "exact")
    assert int(copied["value"]) == 12 * (23 + 11) * 4096
    told = [*csv.DictReader(io.StringIO(cowtrace("diff", "--csv", one, other).stdout))]
    (copied,) = [each for each in told if each["name"] == "copied"]
    assert float(copied["change"]) == 1
