"""Compare the counts that each oracle gave with those expected of a workload. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads.outcome import KINDS, Evidence, Observed, compared, of_thread, total

# What the kernel's delay accounting calls a write-protect copy.
_WP_COPIES = (FaultKind.COPIED, FaultKind.ZERO_FILLED)
# It begins to count in hugetlb_wp() before that sees that the page need not be copied.
_ALSO_COUNTED = ((FaultKind.REUSED, Source.HUGETLB),)
# It misses this: do_huge_pmd_wp_page() replaces a huge zero page on its own.
_NOT_COUNTED = ((FaultKind.ZERO_FILLED, Source.THP),)


def is_wp_copy(kind: FaultKind, source: Source) -> bool:
    """Whether taskstats counts such a fault, by the process's own write, as a copy."""
    also, not_counted = (kind, source) in _ALSO_COUNTED, (kind, source) in _NOT_COUNTED
    return also or (kind in _WP_COPIES and not not_counted)


def evidence(processes: Iterable[Observed], *, races: bool) -> Iterator[Evidence]:
    """Evidence of the oracles that all workloads share."""
    for process in processes:
        role = process.role
        if process.pagemap is None and not process.written_pages:
            continue  # it was killed, or runs no Python: the workload notes its evidence
        yield from _frames(process)
        if not races:
            wanted, seen = _wp_copies(process), process.wp_copies
            # Fewer copies contradict nothing: delayacct_end() skips those that took no time by its
            # clock. Under emulation on a busy machine it skips up to half of all copies.
            fewer = wanted is not None and seen is not None and seen < wanted
            ok = None if fewer else of_thread(wanted, seen)
            yield Evidence("taskstats", f"{role}: wpcopy", wanted, seen, ok)
            wanted, seen = _own_faults(process, KINDS), process.page_faults
            # A huge entry that was made writable is not flushed: a processor may fault once more.
            repeated = (FaultKind.REUSED, Source.THP)
            if any((row.kind, row.source) == repeated for row in process.expected.rows):
                wanted = None
            yield Evidence("rusage", f"{role}: page faults", wanted, seen, of_thread(wanted, seen))
            if re_marks := _re_marks(process):
                seen = process.re_marks
                ok = None if seen is None else seen >= re_marks
                what = f"{role}: pgreuse, at least (all processes)"
                yield Evidence("vmstat", what, re_marks, seen, ok)
        right = "as written" if process.data_right else "something else"
        yield Evidence("data", f"{role}: read back", "as written", right, process.data_right)


def _frames(process: Observed) -> Iterator[Evidence]:
    if process.pagemap is None:
        yield Evidence("pagemap", f"{process.role}: frame numbers are hidden", None, None, None)
        return
    counts = [
        (kind, process.expected.of(kind), process.pagemap.of(kind))
        for kind in KINDS
        if process.expected.of(kind) or process.pagemap.of(kind)
    ]
    for kind, wanted, seen in counts or [(FaultKind.COPIED, 0, process.pagemap.copied)]:
        yield compared("pagemap", f"{process.role}: {kind.label}", wanted, seen)


def _own_faults(process: Observed, kinds: Collection[FaultKind]) -> int | None:
    """Faults that the process's own writes raise: without remote ones and copies by fork."""
    counts = total(process.expected.of(kind) for kind in kinds)
    others = total(
        row.faults
        for row in process.expected.rows
        if row.kind in kinds and (row.actor or row.origin is Origin.FORK)
    )
    return None if counts is None or others is None else counts - others


def _re_marks(process: Observed) -> int | None:
    """What the kernel counts as pgreuse: not the re-marks of huge entries."""
    wanted = _own_faults(process, (FaultKind.REUSED,))
    huge = (Source.HUGETLB, Source.THP)
    if any(row.kind is FaultKind.REUSED and row.source in huge for row in process.expected.rows):
        return None
    return wanted


def _wp_copies(process: Observed) -> int | None:
    wanted = _own_faults(process, _WP_COPIES)
    if wanted is None:
        return None
    for row in process.expected.rows:
        if (row.kind, row.source) in _ALSO_COUNTED:
            wanted += row.faults or 0
        if (row.kind, row.source) in _NOT_COUNTED:
            wanted -= row.faults or 0
    return wanted
