"""Made-up recordings, for the views of them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import trace_checker
from snapshots import SECOND, calls, detail, fork, mapping, process, row, snapshot

from cowtrace.analysis.profile import profile, recorded
from cowtrace.analysis.timeline import timeline
from cowtrace.errors import CowtraceError
from cowtrace.machine import question_objects
from cowtrace.machine.chrome_trace import write_chrome_trace
from cowtrace.machine.pprof import write_pprof
from cowtrace.model import Completeness, FaultKind, MappingType, PlaceOf, Source, unknown_place
from cowtrace.recording import Header, Recording
from cowtrace.recording.reader import read
from cowtrace.recording.writer import Writer
from cowtrace.terminal.report import report_text

EVIL = "</script><b>\x1b[31m"
HEADER = Header(
    version="0.1",
    kernel="6.12.43+deb13-cloud-amd64",
    plan="kprobe",
    page_bytes=4096,
    attached_ns=7 * SECOND,
    started_unix_ns=1_795_000_000 * SECOND,
    interval_ns=SECOND,
    command="./job",
    unseen=frozenset(),
    details=frozenset({"generation", "mapping", "latency", "samples"}),
)


def write(
    path: Path,
    *,
    scale: int = 1,
    intervals: int = 12,
    lost: int = 0,
    close: bool = True,
    available: int | None = None,
    place_of: PlaceOf = unknown_place,
    **header: Any,
) -> Path:
    """A parent and a child that copy `scale` times 23 and 11 pages an interval, in the heap.

    `available`: of the system's memory, so many bytes, one less at the end of each interval.
    """
    head = replace(HEADER, **header)
    file = Writer(path, head)
    heap = mapping(type=MappingType.HEAP)
    for at in range(1, intervals + 1):
        by_parent, by_child = 23 * scale * at, 11 * scale * at
        rows = (
            detail(
                1, faults=by_parent, mapping=heap, generation=1, latency=11, ns=2100 * by_parent
            ),
            detail(2, faults=by_child, mapping=mapping(EVIL), generation=1, latency=12, ns=5),
        )
        samples = (
            detail(1, faults=by_parent, user_stack=calls("gc_collect_main", "main")),
            detail(2, faults=by_child, user_stack=calls(EVIL, "main", module=EVIL)),
        )
        now = snapshot(
            process(1, "server", row(FaultKind.COPIED, by_parent), row(FaultKind.REUSED, at)),
            process(2, EVIL, row(FaultKind.COPIED, by_child, Source.THP), parent=1),
            at=at,
            plan=head.plan,
        )
        file.add(
            replace(
                now,
                completeness=Completeness(lost, (("slot taken", lost),) if lost else ()),
                details=rows if "mapping" in head.details else (),
                samples=samples if "samples" in head.details else (),
                generations=(fork(by_parent=by_parent, by_child=by_child, shareable=4096),),
            ),
            None if available is None else available - at,
            place_of,
        )
    if close:
        file.close()
    return path


def make(path: Path, **options: Any) -> Recording:
    """The same, read."""
    return read(write(path, **options))


def answered_or_refused(path: Path) -> None:
    """Whatever is in the file."""
    try:
        found = read(path)
    except CowtraceError:
        return
    assert report_text(found, "x").plain
    question_objects.report(found, "x")
    shown = io.StringIO()
    write_chrome_trace(shown, found, timeline(found))
    trace_checker.shown(shown.getvalue())
    rows, sampled = recorded(found)
    profiled = profile(found.last, rows, {}, copies_only=sampled)
    write_pprof(io.BytesIO(), profiled, began_ns=0, duration_ns=0, comments=())
