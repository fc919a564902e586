"""A Python application that copies 90 MiB, end to end: alone, under `run`, under `record`."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import Report, percent, prose, spread, table
from bench.variants import Missing, environment

ROUNDS = 21
MOST = 1.10  # of what it takes alone: what was promised for `record`
# 90 MiB of objects, whose reference counts the child writes when it reads them.
_LOAD = """
import gc, os
gc.disable()
answers = [b"%2000d" % number for number in range(46_000)]
if not os.fork():
    total = sum(len(each) for each in answers)
    os._exit(0)
os.wait()
total = 0
for number in range(30_000_000):
    total += number
"""


def run(say: Callable[[str], None]) -> Report:
    """In turn; the first round, which fills caches, is not counted. Raises Missing."""
    with tempfile.TemporaryDirectory() as folder:
        load = [sys.executable, "-c", _LOAD]
        cowtrace = [sys.executable, "-m", "cowtrace"]
        file = str(Path(folder) / "trace.cow")
        commands = {
            "alone": load,
            "cowtrace run": [*cowtrace, "run", "--quiet", "--", *load],
            "cowtrace record": [*cowtrace, "record", "-o", file, "--force", "--", *load],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        faults: list[int] = []
        for number in range(ROUNDS + 1):
            say(f"round {number} of {ROUNDS}" if number else "warming up")
            for name, command in commands.items():
                took, minor = _seconds(command)
                if number:
                    seconds[name].append(took)
                    faults += [minor] if name == "alone" else []
    rows = []
    for name, each in seconds.items():
        ratio = spread(one / alone for one, alone in zip(each, seconds["alone"], strict=True))
        more = ("-", "-") if name == "alone" else (percent(ratio), f"+{100 * (MOST - 1):.0f} %")
        rows.append((name, f"{spread(each).median:.2f} s", *more))
    what = f"Medians of {ROUNDS} runs of each, in turn; in brackets the quartiles. The application "
    what += "makes 46,000 objects of 2 kB, which a child reads: "
    what += f"{spread(faults).median:,.0f} minor faults, half of them copies. The tracer's start "
    what += "and end are included."
    head = ("Run", "Seconds", "More", "goal")
    return Report("An application, end to end", [*table(head, rows), *prose(what)], seconds)


def _seconds(command: list[str]) -> tuple[float, int]:
    """And minor faults, its children's included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    began = time.perf_counter()
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True)
    took = time.perf_counter() - began
    if ended.returncode:
        raise Missing(f"{command[1:4]} failed: {ended.stderr.strip()[-200:]}")
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before
