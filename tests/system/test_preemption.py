"""Find out whether this kernel preempts threads, and count what a preempted map reader hides.

All on one CPU, so that the reader, those beside it and the workload take turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from workload_checks import MANY_PAGES, problems, unaccounted

from cowtrace import tracer
from cowtrace.kernel.kallsyms import symbols
from cowtrace.kernel.preemption import preemptible
from cowtrace.workloads import run, run_forked
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = pytest.mark.vm

DEBUGFS, NOWHERE = Path("/sys/kernel/debug/sched/preempt"), Path("/nonexistent")
CHOSEN_AT_BOOT = "#1 SMP PREEMPT_DYNAMIC"
RUNS = 5 if preemptible() else 2  # elsewhere nothing can be hidden
# Another user of BPF maps, which does nothing about being preempted. It says when it begins.
READS_MAPS = """
import ctypes
from cowtrace.kernel.libbpf import libbpf
from cowtrace.kernel.programs import MapSpec, create_map
HASH, ELEMENTS = 1, 4096
fd = create_map(MapSpec("beside", HASH, 4, 8, ELEMENTS, 0))
for key in range(ELEMENTS):
    assert not libbpf().bpf_map_update_elem(fd, key.to_bytes(4, "little"), bytes(8), 0)
keys, values, cursor = bytearray(4 * ELEMENTS), bytearray(8 * ELEMENTS), bytearray(8)
arguments = [(ctypes.c_char * len(a)).from_buffer(a) for a in (cursor, keys, values)]
print(flush=True)
while True:
    count = ctypes.c_uint32(ELEMENTS)
    libbpf().bpf_map_lookup_batch(fd, None, *arguments, ctypes.byref(count), None)
"""


@pytest.fixture
def one_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def test_the_kernels_code_and_debugfs_agree_on_preemption() -> None:
    if "__SCT__cond_resched" in symbols(("__SCT__cond_resched",)):
        assert DEBUGFS.exists()
        assert preemptible(CHOSEN_AT_BOOT, NOWHERE) is preemptible(CHOSEN_AT_BOOT, DEBUGFS)
    else:  # 5.10 and real-time kernels have no choice at boot; arm64 chooses by other means
        kernel = os.uname()
        chosen = kernel.release.startswith("5.10.") or "PREEMPT_RT" in kernel.version
        assert chosen or kernel.machine != "x86_64"
        assert preemptible(CHOSEN_AT_BOOT, NOWHERE)


@pytest.mark.spread("6.12", "7.2")
@pytest.mark.usefixtures("one_cpu")
def test_reading_the_maps_hides_no_fault() -> None:
    with tracer.attach("kprobe", region=(REGION_START, REGION_END)) as live:
        for _ in range(RUNS):
            with snapshots_without_end(live):
                outcome = run("fork-both-write", MANY_PAGES)
            assert problems(outcome, live.snapshot()) == []


@pytest.mark.spread("6.12", "7.2")
@pytest.mark.usefixtures("one_cpu")
def test_faults_hidden_by_another_reader_of_maps_are_lost() -> None:
    with (
        tracer.attach("kprobe", region=(REGION_START, REGION_END)) as live,
        other_reader_of_maps(),
    ):
        for _ in range(RUNS):
            outcome = run_forked("fork-both-write", MANY_PAGES)
            snapshot = live.snapshot()
            if not preemptible():
                assert problems(outcome, snapshot) == []
            elif counts_skipped_kprobes():
                assert unaccounted(outcome, snapshot) == []
        if not counts_skipped_kprobes():
            assert any("losses are not counted" in spot for spot in live.probe_plan.blind_spots)
        elif preemptible():
            assert snapshot.completeness.lost > 0


def counts_skipped_kprobes() -> bool:
    """ "bpf: Count missed stats in trace_call_bpf", 6.7. Without preemption nothing is skipped."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 7) or not preemptible()


@contextmanager
def snapshots_without_end(live: tracer.Tracer) -> Iterator[None]:
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            live.snapshot()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def other_reader_of_maps() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", READS_MAPS], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == b"\n"
            yield
        finally:
            process.kill()
