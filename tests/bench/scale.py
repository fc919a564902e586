"""Ten thousand live processes, then a hundred thousand short-lived ones: nothing may be lost.

Each process copies a number of pages that is known beforehand, in a region that nothing else
writes; the tracer counts faults in that region only, refreshing once a second.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import report, variants
from bench.programs import compiled
from cowtrace import tracer
from cowtrace.analysis.processes import Frame, rows
from cowtrace.model import FaultKind, Snapshot
from cowtrace.terminal.processes import view
from cowtrace.terminal.screen import PlainScreen

LIVE, SHORT = 10_000, 100_000
SHOWN = 50
REFRESHES = 9


@dataclass(frozen=True, slots=True)
class Stage:
    """The tracer after one part of the test."""

    name: str
    expected: int  # pages copied by them
    counted: int
    wrong: int  # processes with another number than expected
    lost: int
    detail: tuple[tuple[str, int], ...]  # of losses, by cause
    refresh_ms: float  # CPU time of a snapshot and a table of the top SHOWN, median
    resident_mb: float  # of this process: the tracer, and the benchmark itself
    maps_mb: float | None  # kernel memory of the maps; None: bpftool does not show it


def run(say: Callable[[str], None]) -> report.Report:
    """Both crowds, one after the other. Raises Missing."""
    stages = []
    with compiled("crowd") as crowd:
        before = _map_ids()
        with tracer.attach(region=variants.REGION) as traced:
            own = _map_ids() - before
            stages.append(_stage("nothing yet", traced, [], own))
            say(f"{LIVE:,} live processes")
            with crowd_of(crowd, "live", LIVE, traced) as alive:
                stages.append(_stage(f"{LIVE:,} alive", traced, [alive], own))
            say(f"{SHORT:,} short-lived processes")
            with crowd_of(crowd, "short", SHORT, traced) as ended:
                pass
            traced.snapshot()  # an ended process is folded at the second reading after its end
            stages.append(_stage(f"then {SHORT:,} ended", traced, [alive, ended], own))
            plan = traced.plan
    lines = report.table(
        ("Stage", "Copies", "Counted", "Wrong", "Lost", "Refresh", "Resident", "Maps"),
        [
            (
                stage.name,
                f"{stage.expected:,}",
                f"{stage.counted:,}",
                str(stage.wrong),
                str(stage.lost),
                f"{stage.refresh_ms:.0f} ms",
                f"{stage.resident_mb:.0f} MB",
                "-" if stage.maps_mb is None else f"{stage.maps_mb:.0f} MB",
            )
            for stage in stages
        ],
    )
    lines += report.prose(
        f"The {plan} plan. Copies: the pages that these processes copied. Wrong: processes of "
        f"which another number was counted. Refresh: CPU time of a snapshot and a table of the "
        f"top {SHOWN}, median of {REFRESHES}. Resident: the tracer with the benchmark around "
        "it. Maps: `bpftool -j map show`, bytes_memlock of this tracer's maps. All by "
        "`make bench SECTIONS=scale`."
    )
    return report.Report(
        "Many processes", lines, {"plan": plan, "stages": list(map(asdict, stages))}
    )


@dataclass(frozen=True, slots=True)
class Crowd:
    """Processes that were forked by one, and what each has copied."""

    parent: int
    pages: Counter[int] = field(default_factory=Counter)  # by pid; a pid may come twice
    rusage: list[int] = field(default_factory=list)  # the kernel's own count, of those that ended

    def counted(self, now: Snapshot) -> Counter[int]:
        """What the tracer says that they have copied."""
        found: Counter[int] = Counter()
        for process in now.processes:
            if process.parent == self.parent and (copied := process.count(FaultKind.COPIED)):
                found[process.pid] += copied
        return found


@contextmanager
def crowd_of(program: str, how: str, count: int, traced: tracer.Tracer) -> Iterator[Crowd]:
    """The processes, which have all copied. Meanwhile the tracer refreshes each second."""
    process = subprocess.Popen(
        [program, how, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    crowd, out, ready = Crowd(process.pid), process.stdout, threading.Event()

    def read() -> None:
        for line in out:
            if line == "ready\n":
                break
            number, pid = line.split()
            if number == "faults":
                crowd.rusage.append(int(pid))
                continue
            crowd.pages[int(pid)] += 1 + int(number) % 7
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        due = time.monotonic() + 1
        while not ready.wait(max(0.0, due - time.monotonic())):
            traced.snapshot()
            due = max(due + 1, time.monotonic())
        if how == "live":
            _settle(crowd, traced)
        yield crowd
    finally:
        process.stdin.close()
        reader.join()
        process.wait()


def _settle(crowd: Crowd, traced: tracer.Tracer) -> None:
    """The last of them may not have written yet."""
    deadline = time.monotonic() + 30
    while crowd.counted(traced.snapshot()) != crowd.pages and time.monotonic() < deadline:
        time.sleep(0.2)


def _stage(name: str, traced: tracer.Tracer, crowds: list[Crowd], own: set[int]) -> Stage:
    now = traced.snapshot()
    found = [crowd.counted(now) for crowd in crowds]
    times = []
    before = now
    with PlainScreen(io.StringIO()) as screen:
        for _ in range(REFRESHES):
            began_ns = time.thread_time_ns()
            now = traced.snapshot()
            top = rows(now, before, limit=SHOWN)
            screen.show(view(Frame(now, top, len(now.processes), SHOWN)))
            times.append((time.thread_time_ns() - began_ns) / 1e6)
            before = now
    return Stage(
        name=name,
        expected=sum(crowd.pages.total() for crowd in crowds),
        counted=sum(counted.total() for counted in found),
        wrong=sum(
            counted[pid] != number
            for crowd, counted in zip(crowds, found, strict=True)
            for pid, number in crowd.pages.items()
        ),
        lost=now.completeness.lost,
        detail=now.completeness.detail,
        refresh_ms=report.spread(times).median,
        resident_mb=resident_mb(),
        maps_mb=_maps_mb(own),
    )


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _maps() -> list[dict[str, int]]:
    program = shutil.which("bpftool", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if not program:
        return []
    shown = subprocess.run([program, "-j", "map", "show"], capture_output=True, text=True)
    try:
        return list(json.loads(shown.stdout))
    except ValueError:
        return []


def _map_ids() -> set[int]:
    return {item["id"] for item in _maps()}


def _maps_mb(own: set[int]) -> float | None:
    sizes = [item["bytes_memlock"] for item in _maps() if item["id"] in own]
    return sum(sizes) / 1e6 if sizes else None
