"""Made-up snapshots, so that views and commands are tested with no kernel."""

from __future__ import annotations

import io
from types import TracebackType

from cowtrace.model import (
    Completeness,
    FaultKind,
    FaultRow,
    Origin,
    PageFaults,
    Process,
    Snapshot,
    Source,
)
from cowtrace.views.rows import Frame
from cowtrace.views.table import render

PAGE = 4096
SECOND = 1_000_000_000
COMPLETE = Completeness(lost=0, detail=())


def row(kind: FaultKind, faults: int, source: Source = Source.ANON) -> FaultRow:
    """Faults of the process itself; a page of bytes each when the kind copies or fills."""
    writes = kind in (FaultKind.COPIED, FaultKind.FILE_COPIED, FaultKind.ZERO_FILLED)
    return FaultRow(kind, source, Origin.USER, None, faults, faults * PAGE if writes else 0)


def process(
    pid: int = 1,
    comm: str = "redis-server",
    *rows: FaultRow,
    parent: int | None = None,
    exited: bool = False,
    page_faults: PageFaults | None = None,
    unseen: frozenset[FaultKind] = frozenset(),
    start_ns: int | None = None,
) -> Process:
    return Process(pid, comm, parent, exited, page_faults, rows, unseen, start_ns)


def snapshot(
    *processes: Process,
    at: float = 1.0,
    completeness: Completeness = COMPLETE,
    unseen: frozenset[FaultKind] = frozenset(),
    kernel: str = "6.12.43+deb13-cloud-amd64",
    plan: str = "kprobe",
) -> Snapshot:
    """At so many seconds after attach."""
    return Snapshot(
        at_ns=7 * SECOND + round(at * SECOND),
        attached_ns=7 * SECOND,
        plan=plan,
        kernel=kernel,
        page_bytes=PAGE,
        processes=processes,
        completeness=completeness,
        unseen=unseen,
    )


def text(frame: Frame) -> str:
    """The frame as plain.py writes it."""
    from cowtrace.views import plain

    stream = io.StringIO()
    plain.write(plain.console(stream), render(frame))
    return stream.getvalue()


class FakeTracer:
    """Stands for a tracer: hands out these snapshots, the last one again and again."""

    plan = "kprobe"

    def __init__(self, *snapshots: Snapshot) -> None:
        self.snapshots = list(snapshots)
        self.closed = False

    def snapshot(self) -> Snapshot:
        return self.snapshots.pop(0) if len(self.snapshots) > 1 else self.snapshots[0]

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> FakeTracer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
