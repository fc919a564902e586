"""What a process must have, row by row, against what was traced: source, origin, actor, bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cowtrace.model import COPIES, FaultKind, FaultRow, Snapshot, Source
from cowtrace.workloads.counts import ExpectedRow, Observed, Outcome

_LARGE = (Source.HUGETLB, Source.THP)  # may be replaced whole
_NEVER = (FaultKind.UNCLASSIFIED, FaultKind.FAILED)  # unless foretold


def differences(outcome: Outcome, trace: Snapshot) -> Iterator[str]:
    """Each row that is not as foretold, of kinds whose rows are; and bytes that are no pages."""
    pids = {process.role: process.pid for process in outcome.processes}
    for one in outcome.processes:
        process = trace.process(one.pid)
        traced = process.rows if process else ()
        yield from (f"{one.role} {words}" for words in _of_process(one, traced, pids, trace))


def _of_process(
    one: Observed, traced: tuple[FaultRow, ...], pids: Mapping[str, int], trace: Snapshot
) -> Iterator[str]:
    foretold = one.expected.rows
    left = [row for row in traced if any(row.kind is other.kind for other in foretold)]
    for expected in foretold:
        if expected.kind in trace.unseen:
            continue
        those = [row for row in left if _alike(expected, row, pids)]
        left = [row for row in left if row not in those]
        faults, moved = sum(row.faults for row in those), sum(row.bytes for row in those)
        if expected.faults not in (None, faults):
            yield f"{_words(expected)}: {expected.faults:,} expected, {faults:,} traced"
        elif expected.bytes not in (None, moved):
            yield f"{_words(expected)}: {expected.bytes:,} bytes expected, {moved:,} traced"
    yield from (f"{_words(row)}: {row.faults:,} traced, none foretold" for row in left)
    kinds = {row.kind for row in foretold}
    for row in traced:
        if row.kind in _NEVER and row.kind not in kinds:
            yield f"{row.kind.label}: {row.faults:,} traced"
        elif row.source not in _LARGE and row.bytes != _whole_pages(row, trace.page_bytes):
            yield f"{row.kind.label}: {row.bytes:,} bytes traced for {row.faults:,} faults"


def _whole_pages(row: FaultRow, page_bytes: int) -> int:
    """A copy is a whole page, whatever was written of it."""
    return row.faults * page_bytes if row.kind in (*COPIES, FaultKind.ZERO_FILLED) else 0


def _alike(expected: ExpectedRow, row: FaultRow, pids: Mapping[str, int]) -> bool:
    """A source that the plan cannot tell is no other source."""
    return (
        row.kind is expected.kind
        and row.origin is expected.origin
        and row.source in (expected.source, Source.UNKNOWN)
        and (not expected.actor or row.actor == pids.get(expected.actor))
    )


def _words(row: ExpectedRow | FaultRow) -> str:
    return f"{row.kind.label} ({row.source.name.lower()}, by {row.origin.name.lower()})"
