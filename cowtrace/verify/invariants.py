"""Find traced rows that are wrong whatever the workload expects."""

from __future__ import annotations

from collections.abc import Iterator

from cowtrace.model import COPIES, FaultKind, FaultRow, Snapshot, Source
from cowtrace.workloads.outcome import Outcome

_LARGE = (Source.HUGETLB, Source.THP)  # may be replaced whole
_NEVER = (FaultKind.UNCLASSIFIED, FaultKind.FAILED)  # unless foretold


def wrong(outcome: Outcome, trace: Snapshot) -> Iterator[str]:
    """Faults that failed or are of no kind, and bytes that are not whole pages."""
    for one in outcome.processes:
        process = trace.process(one.pid)
        foretold = {row.kind for row in one.expected.rows}
        for row in process.rows if process else ():
            words = f"{one.role} {row.kind.label}"
            if row.kind in _NEVER and row.kind not in foretold:
                yield f"{words}: {row.faults:,} traced"
            elif row.source not in _LARGE and row.bytes != _whole_pages(row, trace.page_bytes):
                yield f"{words}: {row.bytes:,} bytes traced for {row.faults:,} faults"


def _whole_pages(row: FaultRow, page_bytes: int) -> int:
    """A copy is a whole page, whatever was written of it."""
    return row.faults * page_bytes if row.kind in (*COPIES, FaultKind.ZERO_FILLED) else 0
