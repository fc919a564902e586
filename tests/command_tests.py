"""Tests of the command line on a live kernel: imported by tests/native and tests/kernel."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

COWTRACE = [sys.executable, "-m", "cowtrace"]
PATIENCE = 200  # seconds: an emulated machine with other work to do takes a quarter of it


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
    left = {
        number: program
        for number, program in programs().items()
        if number not in before and not program.get("pids")  # another process's own
    }
    assert not left


def test_workload_agrees_and_says_so() -> None:
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


def programs() -> dict[int, dict[str, Any]]:
    """The BPF programs that are loaded, by their id."""
    listed = subprocess.run(
        ["bpftool", "prog", "show", "-j"], capture_output=True, check=True, timeout=PATIENCE
    )
    return {program["id"]: program for program in json.loads(listed.stdout)}
