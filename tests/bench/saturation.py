"""Writers on every CPU, as fast as the machine faults, for a minute: nothing may be lost."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable

from bench import report, variants
from bench.programs import compiled
from cowtrace import tracer
from cowtrace.model import FaultKind, Snapshot

SECONDS = 60
PAGES = 2000


def run(say: Callable[[str], None]) -> report.Report:
    """One writer on each CPU that this process may use. Raises Missing."""
    cpus = sorted(os.sched_getaffinity(0))
    with compiled("saturate") as program, tracer.attach(region=variants.REGION) as traced:
        say(f"writing for {SECONDS} s on {len(cpus)} CPUs")
        writers = [
            subprocess.Popen(
                [program, str(cpu), str(SECONDS), str(PAGES)], stdout=subprocess.PIPE, text=True
            )
            for cpu in cpus
        ]
        while any(writer.poll() is None for writer in writers):
            time.sleep(1)
            traced.snapshot()
        now = traced.snapshot()
    rows, data = [], []
    for cpu, writer in zip(cpus, writers, strict=True):
        assert writer.stdout
        done = json.load(writer.stdout)
        counted = _counted(now, writer.pid)
        rows.append(
            (
                f"CPU {cpu}",
                f"{done['pages']:,}",
                *(f"{counted[kind]:,}" for kind in (FaultKind.COPIED, FaultKind.REUSED)),
                f"{done['faults'] - 2 * done['pages']:+,}",
                f"{done['differed']} of {done['checked']}",
            )
        )
        data.append(done | {kind.label: number for kind, number in counted.items()})
    lines = report.table(
        ("Writer", "Pages of each", "Copied", "Re-marked", "getrusage", "pagemap"), rows
    )
    rate = sum(done["faults"] for done in data) / SECONDS
    lines += report.prose(
        f"The {now.plan} plan: lost {_lost(now)}, unclassified {now.unclassified}; "
        f"{rate:,.0f} faults a second on {len(cpus)} CPUs for {SECONDS} s. Pages of each: "
        "copied by the writer's children, and as many re-marked by itself. getrusage: faults "
        "that it saw beyond these. pagemap: turns in which a frame was not as it had to be, of "
        "those compared. By `make bench SECTIONS=saturation`."
    )
    found = {
        "plan": now.plan,
        "lost": now.completeness.lost,
        "detail": now.completeness.detail,
        "writers": data,
    }
    return report.Report("Saturation", lines, found)


def _lost(now: Snapshot) -> str:
    """In the whole system, with the causes."""
    causes = (f"{count} {cause}" for cause, count in now.completeness.detail)
    return f"{now.completeness.lost} ({', '.join(causes) or 'nothing of any kind'})"


def _counted(now: Snapshot, writer: int) -> dict[FaultKind, int]:
    """What the writer's children copied, and what it re-marked."""
    family = now.families([writer])
    mine = [process for process in now.processes if process.pid in family]
    return {
        kind: sum(process.count(kind) or 0 for process in mine)
        for kind in (FaultKind.COPIED, FaultKind.REUSED)
    }
