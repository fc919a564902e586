"""Made-up snapshots, so that views and commands are tested with no kernel."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace, TracebackType
from typing import Any

from cowtrace.analysis.processes import Frame
from cowtrace.kernel.options import DETAILS
from cowtrace.model import (
    Completeness,
    DetailRow,
    Ending,
    Event,
    FaultKind,
    FaultRow,
    ForkGeneration,
    Mapping,
    MappingType,
    Origin,
    PageFaults,
    Process,
    Snapshot,
    Source,
    StackFrame,
)
from cowtrace.terminal.screen import View
from cowtrace.tracer import Needs

PAGE = 4096
SECOND = 1_000_000_000
COMPLETE = Completeness(lost=0, detail=())
_rounds = count(1)


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
    """Each is newer than those made before it."""
    return Process(
        pid, comm, parent, exited, page_faults, rows, unseen, start_ns, changed_in=next(_rounds)
    )


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
        round=max((process.changed_in for process in processes), default=0),
    )


def mapping(
    name: str = "",
    type: MappingType = MappingType.ANON,
    *,
    start: int = 0x7F0000000000,
    pages: int = 509,
    flags: int = 3,
    inode: int = 0,
) -> Mapping:
    """Readable and writable, private."""
    return Mapping(start, start + pages * PAGE, type, flags, name, inode)


def calls(*symbols: str, module: str = "/usr/bin/python3.13") -> tuple[StackFrame, ...]:
    """A stack, the innermost function first."""
    return tuple(StackFrame(s, module, 0x1000 + at) for at, s in enumerate(symbols))


def detail(
    pid: int = 1,
    kind: FaultKind = FaultKind.COPIED,
    faults: int = 23,
    *,
    source: Source = Source.ANON,
    **fields: Any,
) -> DetailRow:
    """A page of bytes for each fault that copies or fills."""
    writes = kind in (FaultKind.COPIED, FaultKind.FILE_COPIED, FaultKind.ZERO_FILLED)
    missing: dict[str, Any] = dict.fromkeys(
        ("generation", "mapping", "user_stack", "kernel_stack", "latency", "ns")
    )
    return DetailRow(
        pid=pid,
        kind=kind,
        source=source,
        origin=Origin.USER,
        faults=faults,
        bytes=faults * PAGE if writes else 0,
        **(missing | fields),
    )


def fork(
    number: int = 1,
    parent: int = 1,
    child: int = 2,
    *,
    at: float = 0.5,
    shareable: int | None = 1000,
    by_parent: int = 0,
    by_child: int = 0,
    ended: float | None = None,
    ended_by: Ending = Ending.EXIT,
    **cost: int | None,
) -> ForkGeneration:
    """Times in seconds after attach, memory in pages; but `cost` as its fields are."""
    return ForkGeneration(
        number=number,
        parent=parent,
        child=child,
        at_ns=7 * SECOND + round(at * SECOND),
        shareable_bytes=None if shareable is None else shareable * PAGE,
        ended_ns=None if ended is None else 7 * SECOND + round(ended * SECOND),
        ended_by=None if ended is None else ended_by,
        parent_copied_bytes=by_parent * PAGE,
        child_copied_bytes=by_child * PAGE,
        **cost,
    )


def event(address: int = 0x7F0000001234, **fields: Any) -> Event:
    """One copy."""
    usual: dict[str, Any] = {
        "at_ns": 8 * SECOND,
        "pid": 1,
        "tid": 1,
        "comm": "redis-server",
        "kind": FaultKind.COPIED,
        "source": Source.ANON,
        "origin": Origin.USER,
        "bytes": PAGE,
        "mapping": None,
        "ns": 2710,
    }
    return Event(address=address, **(usual | fields))


def text(shown: Frame | View) -> str:
    """A view, or that of a frame of processes, as a pipe gets it."""
    from cowtrace.terminal import processes
    from cowtrace.terminal.screen import PlainScreen

    stream = io.StringIO()
    PlainScreen(stream).show(processes.view(shown) if isinstance(shown, Frame) else shown)
    return stream.getvalue()


class FakeTracer:
    """Stands for a tracer: hands out these snapshots, the last one again and again."""

    plan = "kprobe"

    def __init__(
        self,
        *snapshots: Snapshot,
        details: frozenset[str] = frozenset(DETAILS),
        events: tuple[Event, ...] = (),
    ) -> None:
        self.snapshots = list(snapshots)
        self.probe_plan = SimpleNamespace(details=details)
        self.batches = [events]
        self.closed = False

    def confine(self, needs: Needs) -> None:
        """Nothing: tests that follow need their privileges."""

    def fold_ended(self, most: int) -> None:
        """Nothing: the snapshots are given."""

    def forget_ended(self) -> None:
        """Nothing: the snapshots are given."""

    def events(self, timeout_seconds: float) -> Iterator[Event]:
        return iter(self.batches.pop(0) if self.batches else ())

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
