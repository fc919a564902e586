"""Copies of pages that wait for a hint of NUMA balancing: present to the kernel, not to the CPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from workload_checks import attached

from cowtrace.kernel.preemption import preemptible
from cowtrace.model import FaultKind
from cowtrace.workloads.region import PAGE_BYTES, REGION_END, REGION_START

pytestmark = [pytest.mark.vm, pytest.mark.spread("6.12")]

PAGES = 1009
ENABLED = Path("/proc/sys/kernel/numa_balancing")
# Scan at once, often, and much at a time.
SCANS = {"scan_delay_ms": "1", "scan_period_min_ms": "10", "scan_period_max_ms": "20"}
SETTINGS = Path("/sys/kernel/debug/sched/numa_balancing")
# With a second thread: the kernel leaves alone what lies on the node of a process's only thread.
# Prints the hints that it met before the fork, and then before the parent writes.
CODE = f"""
import ctypes, os, threading, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
at = libc.mmap({REGION_START}, {PAGES * PAGE_BYTES}, 3, 0x100022, -1, 0)  # anonymous, fixed
assert at == {REGION_START}
libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t({PAGES * PAGE_BYTES}), 15)  # small pages
def thread():
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
def write():
    for page in range({PAGES}):
        ctypes.memset(at + page * {PAGE_BYTES}, 1, 1)
def hints():
    lines = open("/proc/vmstat").read().split("\\n")
    return next(int(line.split()[1]) for line in lines if line.startswith("numa_hint_faults "))
def meet_hints():
    first, end = hints(), time.monotonic() + 60
    while hints() - first < {PAGES} and time.monotonic() < end:
        for page in range({PAGES}):
            ctypes.string_at(at + page * {PAGE_BYTES}, 1)
    return hints() - first
write()
thread()
met = [meet_hints()]
child = os.fork()
if not child:
    thread()
    write()
    meet_hints()
    os._exit(0)
os.waitpid(child, 0)
met.append(meet_hints())
write()
print(os.getpid(), child, *met, flush=True)
"""


@pytest.fixture
def balancing() -> Iterator[None]:
    # Moved by "sched: Move SCHED_DEBUG sysctl to debugfs" (5.13).
    settings = {ENABLED: "1"}
    for name, value in SCANS.items():
        before_5_13 = ENABLED.with_name(f"numa_balancing_{name}")
        settings[SETTINGS / name if SETTINGS.exists() else before_5_13] = value
    before = {path: path.read_text() for path in settings}
    try:
        for path, value in settings.items():
            path.write_text(value)
        yield
    finally:
        for path, value in before.items():
            path.write_text(value)


@pytest.mark.usefixtures("balancing")
def test_they_count_as_any_other() -> None:
    with ExitStack() as stack:
        tracers = attached(stack, region=(REGION_START, REGION_END))
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CODE], check=True, capture_output=True, text=True
        )
        snapshots = {plan: live.snapshot() for plan, live in tracers.items()}
    parent, child, *met = map(int, ended.stdout.split())
    assert min(met) >= PAGES
    for plan, now in snapshots.items():
        if preemptible() and not plan.startswith("kprobe"):
            continue  # these two may lose faults there
        kinds = FaultKind.COPIED, FaultKind.REUSED
        counts = {p.pid: [p.count(kind) for kind in kinds] for p in now.processes}
        assert (counts[child], counts[parent]) == ([PAGES, 0], [0, PAGES]), plan
