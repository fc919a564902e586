"""An hour of 200 busy processes at 1 s, made up: the size of its recording, the time to read it."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bench.report import Report, prose, table
from cowtrace.model import (
    Completeness,
    DetailRow,
    FaultKind,
    FaultRow,
    ForkGeneration,
    Mapping,
    MappingType,
    Origin,
    Process,
    Snapshot,
    Source,
    StackFrame,
)
from cowtrace.recording import Header
from cowtrace.recording.writer import Writer

PROCESSES, SECONDS = 200, 3600
MOST_MB, MOST_SECONDS = 50, 3  # what was promised
_PAGE, _SECOND = 4096, 1_000_000_000
_NOTHING = frozenset[FaultKind]()


def run(say: Callable[[str], None]) -> Report:
    """Each process copies, re-marks, and often zero-fills in every interval."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.cow"
        file = Writer(path, _header())
        writing = 0.0
        for at, now in enumerate(_snapshots(), 1):
            began = time.perf_counter()
            file.add(now)
            writing += time.perf_counter() - began
            if at % 600 == 0:
                say(f"{at:,} of {SECONDS:,} intervals")
        file.close()
        megabytes = path.stat().st_size / 1e6
        reports = {name: _seconds(path, *more) for name, more in _reports(folder)}
    rows = [
        ("file", f"{megabytes:,.1f} MB", f"{MOST_MB} MB"),
        ("writing an interval", f"{writing / SECONDS * 1e3:,.1f} ms", ""),
        *((name, f"{took:,.2f} s", f"{MOST_SECONDS} s") for name, took in reports.items()),
    ]
    what = f"{PROCESSES} processes that all copy in each of {SECONDS:,} intervals of 1 s, with "
    what += "mappings, latency, forks and stacks. The counts are made up; the writing is real."
    return Report(
        "Recordings",
        [*table(("", "measured", "at most"), rows), *prose(what)],
        {"megabytes": megabytes, "write_ms": writing / SECONDS * 1e3, "seconds": reports},
    )


def _reports(folder: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "report", ()
    yield "report --json", ("--json",)
    yield "report --html", ("--html", f"{folder}/page.html")


def _seconds(path: Path, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cowtrace", "report", path, *arguments],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began


def _header() -> Header:
    details = frozenset({"generation", "mapping", "latency", "samples"})
    return Header("0", "6.12", "kprobe", _PAGE, 0, 0, _SECOND, None, _NOTHING, details)


def _snapshots() -> Iterator[Snapshot]:
    chance = random.Random(1)
    sums = [[0, 0, 0] for _ in range(PROCESSES)]
    stacks = [
        tuple(StackFrame(f"function_{s}_{d}", "/usr/bin/server", d) for d in range(25))
        for s in range(60)
    ]
    heaps = [
        Mapping(s << 32, (s << 32) + (1 << 24), MappingType.ANON, 3, f"arena {s}", 0)
        for s in range(8)
    ]
    plain = DetailRow(0, FaultKind.COPIED, Source.ANON, Origin.USER,
                      None, None, None, None, None, 0, 0, None)  # fmt: skip
    details: dict[tuple[int, int, int], DetailRow] = {}
    samples: dict[tuple[int, int], DetailRow] = {}
    for at in range(1, SECONDS + 1):
        processes, generations = [], []
        for i, counted in enumerate(sums):
            counted[0] += chance.randint(1, 3000)
            counted[1] += chance.randint(1, 2000)
            counted[2] += chance.randint(0, 1)
            kinds = (FaultKind.COPIED, FaultKind.REUSED, FaultKind.ZERO_FILLED)
            rows = tuple(
                FaultRow(kind, Source.ANON, Origin.USER, None, n, n * _PAGE)
                for kind, n in zip(kinds, counted, strict=True)
            )
            pid = 1000 + i
            processes.append(Process(pid, f"worker {i}", 999, False, None, rows, _NOTHING, i))
            copied = counted[0] * _PAGE
            generations.append(ForkGeneration(i + 1, 999, pid, i, 1 << 40, None, None, 0, copied))
            heap, bucket = chance.randrange(8), chance.randrange(8, 16)
            old = details.get((pid, heap, bucket), plain)
            details[pid, heap, bucket] = replace(
                plain, pid=pid, generation=i + 1, mapping=heaps[heap], latency=bucket,
                faults=old.faults + 7, bytes=old.bytes + 7 * _PAGE, ns=(old.ns or 0) + 9000,
            )  # fmt: skip
            stack = (at + i) % len(stacks)
            old = samples.get((pid, stack), plain)
            samples[pid, stack] = replace(
                plain, pid=pid, user_stack=stacks[stack],
                faults=old.faults + 7, bytes=old.bytes + 7 * _PAGE,
            )  # fmt: skip
        yield Snapshot(
            at * _SECOND, 0, "kprobe", "6.12", _PAGE, tuple(processes), Completeness(0, ()),
            _NOTHING, tuple(details.values()), tuple(generations), tuple(samples.values()),
        )  # fmt: skip
