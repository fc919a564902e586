"""From exec to the first attached probe, and the memory that takes; the compile step alone."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import report, variants

ROUNDS = 9
# Prints the time at which it runs: started by the tracer when its probes are attached.
_CLOCK = ("/bin/date", "+%s%N")  # bpftrace wants a whole path

# What BCC's users write: the kernel's own headers, nothing from BTF.
_WITH_HEADERS = r"""
import os, bcc
os.environ.pop("BCC_KERNEL_SOURCE", None)
programs = bcc.BPF(text='''
#include <linux/mm.h>
BPF_PERCPU_HASH(counts, u32, u64);
RAW_TRACEPOINT_PROBE(page_fault_user)
{
    u32 pid = bpf_get_current_pid_tgid() >> 32;
    counts.increment(pid);
    return 0;
}
''')
os.execvp("date", ["date", "+%s%N"])
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One start."""

    seconds: float  # from exec to the first attached probe
    peak_bytes: int  # resident, of the largest process that it took


def starters() -> dict[str, list[str]]:
    """What is started, by name; each runs _CLOCK when its probes are attached."""
    cowtrace = [sys.executable, "-m", "cowtrace", "run", "--quiet", "--", *_CLOCK]
    bpftrace = ["bpftrace", "-e", variants.TRACEPOINT_COUNT, "-c", " ".join(_CLOCK)]
    pair = ["bpftrace", "-e", variants.TRACEPOINT_PAIR, "-c", " ".join(_CLOCK)]
    # Its programs cannot be kept there, so that each start is like the first.
    first = ["env", "XDG_CACHE_HOME=/dev/null", *cowtrace]
    found = {"cowtrace run": cowtrace, "cowtrace run, first time": first}
    if shutil.which("bpftrace"):
        found |= {"bpftrace tracepoint count": bpftrace, "bpftrace tracepoint pair": pair}
    if _headers():
        found["BCC with kernel headers"] = [sys.executable, "-c", _WITH_HEADERS]
    return found


def run(say: Callable[[str], None]) -> report.Report:
    """In turn, the first round not counted: it fills the page cache."""
    named = starters()
    starts: dict[str, list[Start]] = {name: [] for name in named}
    compiled: list[float] = []
    missing = {}
    for number in range(ROUNDS + 1):
        say(f"round {number} of {ROUNDS}" if number else "warming up")
        for name, command in named.items():
            if name in missing:
                continue
            try:
                start = _start(command)
            except variants.Missing as reason:
                missing[name] = str(reason)
                continue
            if number:
                starts[name].append(start)
        if number:
            compiled.append(_compile_seconds())
    rows = []
    for name, each in starts.items():
        if each:
            took = report.spread(start.seconds for start in each)
            peak = max(start.peak_bytes for start in each) / 1e6
            rows.append((name, _seconds(took), f"{peak:.0f} MB"))
    rows.append(("cowtrace, compile step", _seconds(report.spread(compiled)), "-"))
    if not shutil.which("bpftrace"):
        missing["bpftrace"] = "not installed: apt install bpftrace"
    if not _headers():
        release = platform.release()
        missing["BCC with kernel headers"] = f"no headers of kernel {release} are installed"
    lines = report.table(("Started", "Seconds to attached", "Peak memory"), rows)
    lines += ["", *(f"- {name}: {why}" for name, why in missing.items())] if missing else []
    lines += report.prose(
        f"From exec to when a command that the tracer starts, with its probes attached, reads "
        f"the clock; median of {ROUNDS}, in turn, in brackets the quartiles. Peak: resident "
        "memory of the tracer (1 MB is 10^6 bytes). The commands:"
    )
    shown = {
        name: shlex.join("python" if word == sys.executable else word for word in command)
        for name, command in named.items()
        if name != "BCC with kernel headers"
    }
    lines += report.commands([*shown.items(), ("compile step", "python -m bench.compile")])
    data = {name: [asdict(start) for start in each] for name, each in starts.items()}
    return report.Report("Start-up", lines, data | {"compile_seconds": compiled})


def _start(command: Sequence[str]) -> Start:
    began_ns = time.time_ns()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variants.environment()
    )
    assert process.stdout
    said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    clock = next((line for line in said.splitlines() if line.strip().isdigit()), None)
    if process.returncode or clock is None:
        raise variants.Missing(f"{command[0]} ended with code {process.returncode}")
    return Start((int(clock) - began_ns) / 1e9, usage.ru_maxrss * 1024)


def _compile_seconds() -> float:
    command = [sys.executable, "-m", "bench.compile"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, env=variants.environment()
    )
    return float(json.loads(ended.stdout))


def _headers() -> bool:
    return Path("/lib/modules", platform.release(), "build/include/linux").exists()


def _seconds(value: report.Spread) -> str:
    return f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"
