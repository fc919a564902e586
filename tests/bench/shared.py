"""`cowtrace shared` on ten processes of 1 GiB: what reading and comparing their frames takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.report import Report, prose, spread, table
from bench.variants import Missing, environment

PROCESSES, MIB = 10, 1024
MOST_SECONDS, MOST_MB = 1.0, 100  # of CPU, and resident: what was promised
RUNS = 5
# Each child writes a share of the pages, scattered, so that no range of 2 MiB stays the same.
_LOAD = f"""
import mmap, os, signal
memory = mmap.mmap(-1, {MIB} << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
pages = len(memory) // mmap.PAGESIZE
for page in range(pages):
    memory[page * mmap.PAGESIZE] = 1
reader, writer = os.pipe()
for child in range(1, {PROCESSES}):
    if not os.fork():
        for page in range(child, pages, {{every}}):
            memory[page * mmap.PAGESIZE] = 2
        os.write(writer, b".")
        signal.pause()
for child in range(1, {PROCESSES}):
    os.read(reader, 1)
print("ready", flush=True)
signal.pause()
"""
_LOADS = {"nothing written since the fork": 1 << 40, "each child wrote a tenth": 10}


def run(say: Callable[[str], None]) -> Report:
    """Both loads, one after the other. Raises Missing."""
    if os.geteuid():
        raise Missing("frame numbers are root's")
    data: dict[str, list[dict[str, float]]] = {}
    rows = []
    for name, every in _LOADS.items():
        say(name)
        with _family(every) as pid:
            data[name] = runs = [_measured(pid) for _ in range(RUNS)]
        cpu, resident = (spread(run[field] for run in runs) for field in ("seconds", "mb"))
        rows.append((name, f"{cpu.median:.2f} s", f"{MOST_SECONDS:.0f} s",
                     f"{resident.median:.0f} MB", f"{MOST_MB} MB"))  # fmt: skip
    head = ("load", "CPU", "goal", "resident", "goal")
    what = (
        f"{PROCESSES} processes of {MIB:,} MiB in small pages, a parent and its children; medians"
    )
    what += f" of {RUNS} runs of the whole command."
    return Report("What `cowtrace shared` takes", [*table(head, rows), *prose(what)], data)


@contextmanager
def _family(every: int) -> Iterator[int]:
    load = [sys.executable, "-c", _LOAD.format(every=every)]
    with subprocess.Popen(load, stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout
            if parent.stdout.readline() != b"ready\n":
                raise Missing("the load did not start: not enough memory?")
            yield parent.pid
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def _measured(pid: int) -> dict[str, float]:
    command = [sys.executable, "-m", "cowtrace", "shared", "-p", str(pid), "--follow", "--json"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as running:
        assert running.stdout
        found = json.loads(running.stdout.read())
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode or len(found["processes"]) != PROCESSES:
        raise Missing("the command failed")
    return {"seconds": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}
