"""Run commands on a live kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest
from command import COWTRACE, PATIENCE, eventually, programs
from workload_checks import plans

from cowtrace import tracer
from cowtrace.kernel.facts import kernel_facts
from cowtrace.kernel.plan import NoPlan, PlanName, probe_plan
from cowtrace.kernel.preemption import preemptible

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.usefixtures("can_trace")]

STARTED = [
    pytest.param("fentry", marks=pytest.mark.spread("6.12")),
    pytest.param("tracepoint", marks=pytest.mark.spread),  # the one that this machine allows
]


@pytest.mark.spread("5.10", "6.1")
def test_the_doctor_names_the_plan_that_auto_chooses() -> None:
    doctor = subprocess.run([*COWTRACE, "doctor", "--json"], capture_output=True, timeout=PATIENCE)
    with tracer.attach("auto") as live:
        assert json.loads(doctor.stdout)["auto"] == live.plan


@pytest.mark.spread("5.10")
def test_run_passes_on_the_exit_code() -> None:
    ended = subprocess.run(
        [*COWTRACE, "run", "--", "sh", "-c", "exit 7"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 7, ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_interrupted_top_shows_its_last_table_and_leaves_nothing_loaded() -> None:
    before = programs()
    with subprocess.Popen(
        [*COWTRACE, "top", "0.5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as top:
        assert top.stdout
        first = top.stdout.readline()  # the first block: attached by now
        assert first.lstrip().startswith("PID"), top.stderr and top.stderr.read()
        assert programs().keys() - before.keys(), "no BPF program was seen while top ran"
        top.send_signal(signal.SIGINT)
        rest, errors = top.communicate(timeout=PATIENCE)
    assert top.returncode == 0, errors
    assert "Traceback" not in errors
    last_block = rest.rstrip().split("\n\n")[-1]
    assert "unclassified 0" in last_block
    # The kernel frees a program a grace period after its end.
    assert eventually(lambda: not left_over(before)), left_over(before)


@pytest.mark.spread("6.12")
def test_workload_reports_that_all_counts_agree() -> None:
    ended = subprocess.run(
        [*COWTRACE, "workload", "fork-both-write", "--pages", "23", "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (line,) = ended.stdout.splitlines()
    compared = json.loads(line)
    assert compared["ok"] is True
    counted = {
        (row["role"], row["kind"]): (row["expected"], row["traced"], row["pagemap"])
        for row in compared["rows"]
        if row["expected"]
    }
    assert counted == {("parent", "reused"): (23, 23, 23), ("child", "copied"): (23, 23, 23)}


@pytest.mark.parametrize("plan", [each for each in STARTED if each.values[0] in plans()])
def test_a_second_start_needs_no_compiler_and_counts_right(plan: PlanName, tmp_path: Path) -> None:
    no_plan = probe_plan(plan, kernel_facts())
    if isinstance(no_plan, NoPlan):
        pytest.skip("; ".join(no_plan.reasons))

    workload = ("workload", "fork-both-write", "--pages", "23", "--attach", plan)

    def kept() -> set[int]:
        return {path.stat().st_ino for path in tmp_path.glob("cowtrace/programs/*")}

    def compiles() -> bool:
        before = kept()
        ended = subprocess.run(
            [*COWTRACE, *workload],
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        # The counts are right, or not complete and it says so: on a preemptible kernel.
        complete = ", lost 0" in ended.stdout or plan == "kprobe" or not preemptible()
        assert ended.returncode == 0 or not complete, ended.stdout + ended.stderr
        return kept() != before  # a file that is only read stays the same one

    assert compiles()
    assert not compiles()
    if plan != plans()[-1]:
        return  # how a damaged file is read does not depend on the plan
    for path in tmp_path.glob("cowtrace/programs/*"):
        path.write_bytes(path.read_bytes()[:-1])
    assert compiles()
    assert not compiles()


def left_over(before: Container[int]) -> dict[int, dict[str, Any]]:
    """The BPF programs that were not there before, and that no process has open."""
    return {
        number: program
        for number, program in programs().items()
        if number not in before and not program.get("pids")
    }


@pytest.mark.spread("6.1")
def test_a_command_has_the_environment_that_cowtrace_was_given() -> None:
    """Also where cowtrace compiles, for which the compiler wants variables of its own."""
    environ = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": "/dev/null", "MINE": "a b"}
    ended = subprocess.run(
        [*COWTRACE, "run", "-q", "-o", "/dev/null", "--", "env", "-0"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stderr
    assert dict(each.split("=", 1) for each in ended.stdout.split("\0")[:-1]) == environ
