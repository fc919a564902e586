"""Validate the --json output of every command against the schema that cowtrace ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE
from schema_checks import check

from cowtrace import tracer
from cowtrace.cli.cost import PAGES, ROUNDS
from cowtrace.errors import EXIT_NO_PLAN

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("can_trace")]

STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
# Forks, and copies 509 pages, again and again.
FORKS = """
import os
pages = bytearray(509 * 4096)
while True:
    child = os.fork()
    if not child:
        pages[::4096] = bytes(509)
        os._exit(0)
    pages[::4096] = bytes(509)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def forking() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", FORKS]) as running:
        yield running.pid
        running.kill()


def lines(*arguments: str | Path, code: int = 0) -> list[str]:
    ended = subprocess.run(
        [*COWTRACE, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == code, ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.parametrize("name", ["top", "maps", "forks", "stacks"])
def test_live_views(forking: int, name: str) -> None:
    output = lines(name, "--json", "-p", str(forking), "0.5", "2")
    assert check(name, output) == 2
    assert "509" in output[-1] or len(output[-1]) > 500


def test_latency(forking: int) -> None:
    ended = subprocess.run(
        [*COWTRACE, "latency", "--json", "-p", str(forking), "0.5", "1"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if ended.returncode == EXIT_NO_PLAN:
        pytest.skip(f"this machine: {ended.stderr.splitlines()[-2]}")
    assert check("latency", ended.stdout.splitlines()) == 1


def test_snoop(forking: int) -> None:
    output = lines("snoop", "--json", "-p", str(forking), "-n", "509")
    assert check("snoop", output) >= 509


def test_top_with_everything(forking: int) -> None:
    assert check("top", lines("top", "--json", "-v", "0.3", "1")) == 1


def test_run() -> None:
    assert check("run", lines("run", "--json", "--", "true")) == 1


def test_record_report_and_diff(forking: int, tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    for file, more in ((one, ()), (other, ("--no-stacks", "--no-mappings"))):
        lines("record", "-o", file, "-p", str(forking), "--for", "1", "--interval", "0.2", *more)
        assert check("report", lines("report", "--json", file)) == 1
    assert check("diff", lines("diff", "--json", one, other)) == 1


def test_workload_and_verify() -> None:
    assert check("workload", lines("workload", "--json", "fork-both-write")) == 1
    assert check("workload", lines("workload", "--json", "fork-read-only", "--pages", "23")) == 1
    assert check("verify", lines("verify", "--json", "C2")) >= 1


def test_doctor_measures_the_cost_here() -> None:
    before = STATISTICS.read_text() if STATISTICS.exists() else None
    began = time.monotonic()
    (line,) = lines("doctor", "--cost", "--json")
    took = time.monotonic() - began
    assert check("doctor", [line]) == 1
    costs = json.loads(line)["cost"]
    assert costs[0]["details"] == []
    for cost in costs:
        assert cost["copies"] == PAGES * ROUNDS
        # Its interpreter copies some pages as well, with each fork.
        assert cost["traced"] >= cost["copies"]
        assert cost["faults"] >= cost["traced"]
        if cost["bpf_ns"] is not None:
            assert cost["bpf_runs"] >= cost["copies"]
            assert 10 < cost["ns_per_fault"] < 1_000_000
            assert 0 < cost["cpu_share"] < os.cpu_count() + 0.5  # type: ignore[operator]
            assert cost["bpf_ns"] < took * 1e9 * (os.cpu_count() or 1)
    # Nothing is left on, in the switch or by a descriptor.
    assert (STATISTICS.read_text() if STATISTICS.exists() else None) == before
    with tracer.attach("auto") as live:
        if before == "0\n" and (first := live.bpf_cost()) is not None:
            subprocess.run(["true"], check=True)
            assert live.bpf_cost() == first == (0, 0)
