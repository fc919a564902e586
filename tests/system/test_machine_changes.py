"""Trace while CPUs go offline, clocks step and sysctls restrict access."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE, asking_anew
from workload_checks import MANY_PAGES, plans, problems, unaccounted

from cowtrace import tracer
from cowtrace.kernel.plan import PlanName
from cowtrace.kernel.preemption import preemptible
from cowtrace.recording.reader import read
from cowtrace.workloads import run_forked
from cowtrace.workloads.region import REGION_END, REGION_START
from cowtrace.workloads.settings import changed

pytestmark = pytest.mark.vm

CPU = Path("/sys/devices/system/cpu/cpu1/online")
# Off and on for as long as its standard input is open, and on in the end.
TOGGLE = f"""
import pathlib, select, sys
cpu = pathlib.Path({str(CPU)!r})
times = 0
try:
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        cpu.write_text("0")
        cpu.write_text("1")
        times += 1
        if times == 1:
            print("begun", flush=True)
finally:
    cpu.write_text("1")
    print(times)
"""
RESTRICTIONS = {
    "/proc/sys/kernel/kptr_restrict": "2",  # no addresses, not even for root
    "/proc/sys/kernel/perf_event_paranoid": "3",
    "/proc/sys/kernel/unprivileged_bpf_disabled": "2",
}
HOUR = 3600


@pytest.mark.parametrize("plan", plans())
def test_cpus_go_offline_and_online(plan: PlanName) -> None:
    with tracer.attach(plan, region=(REGION_START, REGION_END)) as live, cpu_toggled() as toggled:
        for _ in range(3):
            lost = live.snapshot().completeness.lost
            outcome = run_forked("fork-both-write", MANY_PAGES)
            snapshot = live.snapshot()
            if preemptible() and plan != "kprobe":
                assert unaccounted(outcome, snapshot) == []
            else:
                assert problems(outcome, snapshot, lost_before=lost) == []
    assert toggled[0] > 0


@pytest.mark.spread("6.12")
def test_clock_steps_do_not_change_a_recordings_duration(tmp_path: Path) -> None:
    started, at = time.monotonic(), time.time()
    with subprocess.Popen([*COWTRACE, "record", "-o", tmp_path / "f", "--for", "3"]) as recorder:
        try:
            for step in (HOUR, -HOUR, 2 * HOUR):
                time.sleep(1)
                time.clock_settime(time.CLOCK_REALTIME, time.time() + step)
        finally:
            time.clock_settime(time.CLOCK_REALTIME, at + time.monotonic() - started)
        assert recorder.wait(timeout=PATIENCE) == 0
    recording = read(tmp_path / "f")
    assert recording.closed
    lasted = (recording.last.at_ns - recording.last.attached_ns) / 1e9
    assert 3 <= lasted < time.monotonic() - started


@pytest.mark.spread("7.2")
@pytest.mark.parametrize("plan", plans())
def test_restricting_sysctls_change_no_count(plan: PlanName, cache_folder: Path) -> None:
    with changed(RESTRICTIONS):
        assert {path: Path(path).read_text().strip() for path in RESTRICTIONS} == RESTRICTIONS
        ended = subprocess.run(
            [*COWTRACE, "workload", "fork-both-write", "--json", "--attach", plan],
            env=asking_anew(cache_folder),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    if not (preemptible() and plan != "kprobe"):
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(ended.stdout)["kernel"] == os.uname().release


@contextmanager
def cpu_toggled() -> Iterator[list[int]]:
    """Toggle CPU 1 during the block; afterwards the list holds how often."""
    times: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", TOGGLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as toggle:
        assert toggle.stdout
        try:
            assert toggle.stdout.readline() == "begun\n"
            yield times
        finally:
            printed, _ = toggle.communicate("", timeout=PATIENCE)
    times.append(int(printed))
