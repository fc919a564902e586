"""Plain items of the maps in, Snapshot out. No kernel, no BCC: tested with made-up items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cowtrace.model import (
    Completeness,
    FaultKind,
    FaultRow,
    Origin,
    PageFaults,
    Process,
    Source,
)
from cowtrace.tracer.abi import LOSSES, LOST

PASSED_OVER = "program busy"  # the kernel's own count: cowtrace.kernel.misses
Key = tuple[int, int, int, int, int, int]  # struct fault_key


@dataclass(frozen=True, slots=True)
class RawCounts:
    """One reading of all maps; the fields are those of bpf/cow.h."""

    sums: Mapping[Key, tuple[int, int]]
    page_faults: Mapping[int, tuple[int, int, int]] | None  # None: not counted
    processes: Mapping[int, tuple[int, int, int, bytes]]
    losses: tuple[int, ...]  # enum loss, then calls passed over


def processes(raw: RawCounts, unseen: frozenset[FaultKind]) -> tuple[Process, ...]:
    """One Process for each tgid that has a sum, a page fault, or was born since attach."""
    rows: dict[int, list[FaultRow]] = defaultdict(list)
    for (tgid, actor, kind, source, origin, _), (faults, copied) in sorted(raw.sums.items()):
        if faults:
            rows[tgid].append(
                FaultRow(
                    FaultKind(kind),
                    Source(source),
                    Origin(origin),
                    actor or None,
                    signed(faults),
                    copied,
                )
            )
    tgids = rows.keys() | raw.processes.keys() | (raw.page_faults or {}).keys()
    return tuple(_process(raw, tgid, tuple(rows[tgid]), unseen) for tgid in sorted(tgids))


def _process(
    raw: RawCounts, tgid: int, rows: tuple[FaultRow, ...], unseen: frozenset[FaultKind]
) -> Process:
    parent, exited, _, comm = raw.processes.get(tgid, (0, 0, 0, b""))
    faults = None
    if raw.page_faults is not None:
        faults = PageFaults(*raw.page_faults.get(tgid, (0, 0, 0)))
    return Process(
        pid=tgid,
        comm=comm.split(b"\0", 1)[0].decode(errors="backslashreplace"),
        parent=parent or None,
        exited=bool(exited),
        page_faults=faults,
        rows=rows,
        unseen=unseen,
    )


def completeness(losses: Iterable[int], baseline: Iterable[int]) -> Completeness:
    """What was lost since `baseline`, read when the last probe was attached."""
    since = {
        name: now - then
        for name, now, then in zip((*LOSSES, PASSED_OVER), losses, baseline, strict=True)
    }
    return Completeness(
        lost=sum(since[name] for name in (*LOST, PASSED_OVER)),
        checked=since["checked"] - since["check failed"],
        detail=tuple((n, c) for n, c in since.items() if c and n != "checked"),
    )


def signed(value: int) -> int:
    """A 64-bit sum that may have been read between a take-back and its count."""
    return value - (1 << 64) if value >> 63 else value
