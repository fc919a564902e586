"""`forks`, `maps`, `stacks`, `latency` and `--latency` over a made-up tracer."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faked
import pytest
import warm
from click.testing import CliRunner, Result
from snapshots import PAGE, FakeTracer, calls, detail, fork, mapping, process, row, snapshot
from test_top import FAKED

from cowtrace import tracer
from cowtrace.analysis.forks import fork_rows
from cowtrace.cli import main
from cowtrace.errors import EXIT_NO_PLAN
from cowtrace.kernel.options import DETAILS
from cowtrace.machine import detail_objects
from cowtrace.model import FaultKind, MappingType, Place, Snapshot

ME = os.getpid()
HEAP = mapping(type=MappingType.HEAP)
STACK = calls("py::collect:/srv/app.py", "main")


def at(seconds: float, pages: int) -> Snapshot:
    copied = detail(
        ME, faults=pages, mapping=HEAP, user_stack=STACK, latency=11, ns=pages * 3000, generation=1
    )
    return replace(
        snapshot(
            process(ME, "redis-server", row(FaultKind.COPIED, pages)),
            process(2, "child", row(FaultKind.COPIED, 7), parent=ME),
            at=seconds,
        ),
        details=(copied, detail(2, faults=7, latency=12, ns=35_000, generation=1)),
        samples=(copied,),
        generations=(fork(1, ME, 2, by_parent=pages, by_child=7), fork(2, 8, 9)),
    )


Command = Callable[..., Result]


@pytest.fixture
def asked() -> dict[str, Any]:
    return {}


@pytest.fixture
def cowtrace(monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]) -> Command:
    def run(*arguments: str, details: frozenset[str] = frozenset(DETAILS)) -> Result:
        live = FakeTracer(at(1, 23), at(2, 503), details=details)
        asked.clear()

        def attach(plan: str = "auto", **options: Any) -> FakeTracer:
            asked.update(options, plan=plan)
            return live

        monkeypatch.setattr(tracer, "attach", attach)
        result = CliRunner().invoke(main, arguments)
        assert live.closed or not asked
        return result

    return run


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_forks(cowtrace: Command, asked: dict[str, Any]) -> None:
    shown = cowtrace("forks", "0.05", "2").stdout
    first, second = shown.split("\n\n")
    assert f"{ME} redis-server" in first
    assert "2 of 2 forks" in second
    assert asked["details"] == {"generation"}
    assert " -v" not in second


def test_forks_of_a_process_counts_both_sides(cowtrace: Command, asked: dict[str, Any]) -> None:
    (told,) = objects(cowtrace("forks", "-p", str(ME), "--json", "0.05", "1"))
    (only,) = told["generations"]
    assert (only["parent"], only["child"], only["number"]) == (ME, 2, 1)
    assert only["parent_copied_bytes"] == 23 * PAGE
    assert only["child_copied_bytes"] == 7 * PAGE
    assert only["worst_case_bytes"] == (1000 - 30) * PAGE
    assert only["share_lost"] == 30 / 1000
    assert asked["only"].pids == ()


def test_forks_by_name(cowtrace: Command) -> None:
    shown = cowtrace("forks", "--comm", "redis*", "0.05", "1").stdout
    assert "1 of 1 forks" in shown
    assert "no fork since the start" in cowtrace("forks", "--comm", "x", "0.05", "1").stdout


def test_forks_has_a_trend_from_the_second_look_on(cowtrace: Command) -> None:
    first, second = objects(cowtrace("forks", "--json", "0.05", "2"))
    assert first["generations"][0]["trend"] is None
    assert second["generations"][0]["trend"] == "grows"
    assert second["generations"][0]["copied_bytes_per_second"] == pytest.approx(480 * PAGE)


def test_maps(cowtrace: Command, asked: dict[str, Any]) -> None:
    shown = cowtrace("maps", "-p", str(ME), "0.05", "1").stdout
    assert shown.splitlines()[1].split() == ["[heap]", "rw-p", "23", "0", "92.0KiB", "92.0KiB"]
    assert asked["details"] == {"mapping"}
    assert asked["only"].pids == (ME,)


def test_top_by_mapping(cowtrace: Command) -> None:
    shown = cowtrace("top", "--by", "mapping", "0.05", "1").stdout
    assert "MAPPING" in shown
    assert cowtrace("top", "--by", "mapping", "--latency").exit_code == 2


def test_maps_json_has_addresses(cowtrace: Command) -> None:
    _, told = objects(cowtrace("maps", "--json", "0.05", "2"))
    heap = next(m for m in told["mappings"] if m["name"])
    assert (heap["pid"], heap["name"], heap["segment"]) == (ME, "[heap]", "rw-p")
    assert heap["start"] == HEAP.start
    assert heap["copied"] == 503
    assert heap["copied_bytes_per_second"] == 480 * PAGE


def test_latency(cowtrace: Command, asked: dict[str, Any]) -> None:
    (told,) = objects(cowtrace("latency", "--json", "0.05", "1"))
    parent, child = told["latency"]
    assert parent == {
        "kind": "copied",
        "side": "parent",
        "faults": 23,
        "ns": 69_000,
        "tlb_flush_ns": None,
        "buckets": {"11": 23},
        "p50_below_ns": 4096,
        "p99_below_ns": 4096,
    }
    assert (child["side"], child["faults"]) == ("child", 7)
    assert asked["details"] == {"generation", "latency", "tlb-flush"}
    assert "30 faults timed" in cowtrace("latency", "0.05", "1").stdout


def test_top_with_latency(cowtrace: Command) -> None:
    shown = cowtrace("top", "--latency", "0.05", "1").stdout
    assert "copied       parent       23" in shown
    (told,) = objects(cowtrace("top", "--latency", "--json", "0.05", "1"))
    assert len(told["processes"]) == len(told["latency"]) == 2


@pytest.mark.parametrize(
    ("command", "lacking", "problem"),
    [
        (["latency"], "latency", "cannot time faults"),
        (["top", "--latency"], "latency", "cannot time faults"),
        (["run", "--latency", "--", "true"], "latency", "cannot time faults"),
        (["maps"], "mapping", "cannot attribute faults to mappings"),
        (["forks"], "generation", "cannot follow forks"),
        (["stacks", "--kernel"], "kernel-stack", "cannot read kernel stacks"),
    ],
)
def test_what_the_plan_cannot_tell(
    cowtrace: Command, command: list[str], lacking: str, problem: str
) -> None:
    result = cowtrace(*command, details=frozenset(DETAILS) - {lacking})
    assert result.exit_code == EXIT_NO_PLAN
    first, second = result.stderr.splitlines()
    assert first == f"cowtrace: the kprobe plan {problem} on this kernel"
    assert second.startswith("Hint: ")


def test_stacks(cowtrace: Command, asked: dict[str, Any]) -> None:
    shown = cowtrace("stacks", "0.05", "1").stdout
    assert shown.splitlines()[1].split()[-2:] == ["collect", "/srv/app.py"]
    assert "estimated" in shown
    assert (asked["samples"], asked["details"]) == (True, frozenset())


def test_exact_stacks(cowtrace: Command, asked: dict[str, Any]) -> None:
    shown = cowtrace("stacks", "--frame-pointers", "0.05", "1").stdout
    assert "estimated" not in shown
    assert "[no stack]" in shown
    assert (asked["samples"], asked["details"]) == (False, {"stack"})
    cowtrace("stacks", "--kernel", "0.05", "1")
    assert asked["details"] == {"stack", "kernel-stack"}


def test_stacks_json(cowtrace: Command) -> None:
    _, told = objects(cowtrace("stacks", "--json", "0.05", "2"))
    (only,) = told["stacks"]
    assert [frame["function"] for frame in only["frames"]] == ["py::collect:/srv/app.py", "main"]
    assert (only["faults"], told["sampled"]) == (503, True)


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("a.folded", "redis-server;main (python3.13);collect (app.py) 2060288"),
        ("a.speedscope.json", '{"$schema": "https://www.speedscope.app/'),
        ("a.html", "<!DOCTYPE html>"),
        ("a.txt", "   SELF"),
    ],
)
def test_a_file_is_written_at_the_end(
    cowtrace: Command, tmp_path: Path, name: str, begin: str
) -> None:
    file = tmp_path / name
    result = cowtrace("stacks", "-o", str(file), "0.05", "2")
    assert (result.exit_code, result.output) == (0, "")
    assert file.read_text().startswith(begin)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_format_on_stdout(cowtrace: Command) -> None:
    assert cowtrace("stacks", "--format", "folded", "0.05", "2").stdout.startswith("redis-server;")


@pytest.mark.parametrize(
    "arguments", [["-o", "a.xyz"], ["--format", "folded", "--json"], ["--format", "svg"]]
)
def test_usage_errors(cowtrace: Command, arguments: list[str]) -> None:
    assert cowtrace("stacks", *arguments).exit_code == 2


def test_an_unwritable_file_is_found_before_tracing(
    cowtrace: Command, asked: dict[str, Any], tmp_path: Path
) -> None:
    result = cowtrace("stacks", "-o", str(tmp_path / "no" / "a.folded"))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 2
    assert asked == {}


def test_kinds_in_the_table_of_processes(cowtrace: Command) -> None:
    line = cowtrace("top", "--kind", "reused", "-p", str(ME), "0.05", "1").stdout.splitlines()[1]
    assert line.split()[2:] == ["0", "-", "-", "0", "-", "-", "-"]


def test_run_with_latency() -> None:
    ran = warm.run(faked.run, "run", "--latency", "--", "true")
    assert ran.returncode == 0
    assert "KIND         SIDE " in ran.stderr
    assert ran.stderr.splitlines()[-1] == "unclassified 0, lost 0"
    told = warm.run(faked.run, "run", "--latency", "--json", "--", "true")
    assert told.returncode == 0
    assert json.loads(told.stdout)["latency"] == []


@pytest.mark.parametrize("command", [["forks", "0.1"], ["maps", "0.1"], ["stacks", "0.1"]])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_last_table(command: list[str], end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, FAKED, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        assert running.stderr
        assert running.stdout.readline()
        running.send_signal(end)
        rest = running.stdout.read()
        assert running.stderr.read() == ""
        assert running.wait(timeout=60) == 0
    assert "unclassified 0, lost 0" in rest.split("\n\n")[-1]


def test_a_signal_ends_snoop_with_what_it_saw() -> None:
    with subprocess.Popen(
        [sys.executable, FAKED, "snoop"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        assert running.stdout.readline().startswith("TIME")
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (0, "cowtrace: 0 faults shown, 0 dropped\n")


def test_a_fork_has_the_pid_in_a_container_of_each_side() -> None:
    places = {ME: Place(7, "/parent"), 2: Place(9, "/child")}
    (row_,) = fork_rows([replace(at(1, 23), generations=(fork(1, ME, 2),))], None)
    (made,) = detail_objects.generations([row_], lambda process: places[process.pid])["generations"]
    assert (made["parent_nspid"], made["child_nspid"], made["cgroup"]) == (7, 9, "/child")


def test_frames_begin_with_the_innermost_which_is_the_kernels() -> None:
    copied = detail(ME, user_stack=STACK, kernel_stack=calls("do_wp_page", module="[kernel]"))
    (made,) = detail_objects.stacks([copied], sampled=False)["stacks"]
    assert [frame["function"] for frame in made["frames"]] == [
        "do_wp_page",
        "py::collect:/srv/app.py",
        "main",
    ]


def test_maps_of_one_process_and_its_descendants_has_their_pids(cowtrace: Command) -> None:
    heads = [
        cowtrace("maps", "-p", str(ME), *more, "0.05", "1").stdout.splitlines()[0].split()
        for more in ([], ["--follow"])
    ]
    assert ["PID" in head for head in heads] == [False, True]
