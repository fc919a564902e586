"""Describe counts in words: `parent: reused 509; child: copied 509 (anon)`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from cowtrace.model import FaultKind, Origin, Snapshot, Source
from cowtrace.numbers import MISSING
from cowtrace.workloads.comparison import Row

NONE = "no copy-on-write"


def fault_words(counts: Iterable[tuple[FaultKind, int | None]]) -> str:
    """The sums above 0 by kind; a kind whose count is None is left to the kernel."""
    sums: dict[FaultKind, int] = {}
    either: dict[FaultKind, None] = {}
    for kind, count in counts:
        if count is None:
            either[kind] = None
        else:
            sums[kind] = sums.get(kind, 0) + count
    words = [f"{kind.label} {count:,}" for kind, count in sums.items() if count]
    if either:
        words.append(" or ".join(kind.label for kind in either) + " as this kernel does it")
    return ", ".join(words) or NONE


def expected_words(rows: Iterable[Row]) -> str:
    """Each process with the kinds that it must have."""
    return _by_process(
        rows, lambda pid, those: fault_words((row.kind, row.expected) for row in those)
    )


def observed_words(rows: Iterable[Row], trace: Snapshot) -> str:
    """Each process with the kinds traced; the source of the bytes and the origin if known."""
    return _by_process(rows, lambda pid, those: _traced(pid, those, trace))


def _traced(pid: int, rows: list[Row], trace: Snapshot) -> str:
    process = trace.process(pid)
    words = [
        f"{row.kind.label} {row.faults:,}{_how(row.source, row.origin)}"
        for row in (process.rows if process else ())
    ]
    unseen = [row.kind.label for row in rows if row.traced is None and row.expected != 0]
    words += [f"{label} {MISSING}" for label in unseen]
    return ", ".join(words) or NONE


def _how(source: Source, origin: Origin) -> str:
    parts = [source.label] if source.label else []
    if origin is not Origin.USER:
        parts.append(f"by {origin.name.lower()}")
    return f" ({', '.join(parts)})" if parts else ""


def _by_process(rows: Iterable[Row], describe: Callable[[int, list[Row]], str]) -> str:
    """Each process's rows described; equal processes together: `16 x child: copied 509`."""
    by_pid: dict[int, list[Row]] = {}
    for row in rows:
        by_pid.setdefault(row.pid, []).append(row)
    alike = Counter((those[0].role, describe(pid, those)) for pid, those in by_pid.items())
    return "; ".join(
        f"{f'{number} x ' if number > 1 else ''}{role}: {words}"
        for (role, words), number in alike.items()
    )
