"""Measure what tracing costs: a process that copies pages, with and without a tracer."""

from __future__ import annotations

import json
import statistics
import subprocess
import time

from cowtrace import child
from cowtrace.analysis.cost import Cost
from cowtrace.cli.attach import attach
from cowtrace.errors import CowtraceError
from cowtrace.kernel.options import Detail
from cowtrace.kernel.statistics import bpf_statistics
from cowtrace.model import COPIES

# Short rounds: most are not preempted, even on a busy machine.
PAGES, ROUNDS = 512, 400
_PATIENCE_SECONDS = 120
# Each round forks; the child waits while the parent writes each page once, so each write copies.
# After the round the parent's pages are exclusive, and the next fork shares them again.
_WORK = f"""
import json, mmap, os, time
memory = mmap.mmap(-1, {PAGES} * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
if hasattr(mmap, "MADV_NOHUGEPAGE"):
    memory.madvise(mmap.MADV_NOHUGEPAGE)
def write():
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = 1
write()
took = []
for _ in range({ROUNDS}):
    held, end = os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        os.read(held, 1)
        os._exit(0)
    os.close(held)
    began = time.perf_counter_ns()
    write()
    took.append(time.perf_counter_ns() - began)
    os.close(end)
    os.waitpid(child, 0)
print(json.dumps([os.getpid(), took]))
"""


def measure(used_by: str, details: frozenset[Detail]) -> Cost:
    """Attach, run the workload, detach. Takes some seconds.

    Raises what `attach` raises, and CowtraceError if the kernel's statistics are unavailable.
    """
    _, without = _run()
    with attach("auto", details=details, optional=True) as live:
        _, alone = _run()
        before, cost_before = live.snapshot(), live.bpf_cost()
        began = time.monotonic()
        with bpf_statistics():
            pid, _ = _run()
        seconds = time.monotonic() - began
        after, cost_after = live.snapshot(), live.bpf_cost()
    bpf_ns, bpf_runs = None, None
    if cost_before and cost_after:
        bpf_ns, bpf_runs = (cost_after[i] - cost_before[i] for i in (0, 1))
    workload = after.process(pid)
    return Cost(
        used_by=used_by,
        plan=live.plan,
        details=tuple(sorted(live.probe_plan.details)),
        copies=PAGES * ROUNDS,
        traced=(workload.count(*COPIES) or 0) if workload else 0,
        faults=sum(p.faults for p in after.processes) - sum(p.faults for p in before.processes),
        bpf_ns=bpf_ns,
        bpf_runs=bpf_runs,
        ns_per_copy_without=without,
        ns_per_copy_with=alone,
        seconds=seconds,
    )


def _run() -> tuple[int, float]:
    """The workload's pid, and the nanoseconds of a copy.

    Of its rounds, the 10th percentile counts: those that no other work interrupted.
    """
    ended = subprocess.run(
        child.python(_WORK),
        env=child.environment(),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_SECONDS,
    )
    if ended.returncode:
        raise CowtraceError(
            f"the workload failed: {ended.stderr.strip()[-200:]}",
            hint="is there memory for some MiB, and may this user fork?",
        )
    pid, took = json.loads(ended.stdout)
    return pid, statistics.quantiles(took, n=10)[0] / PAGES
