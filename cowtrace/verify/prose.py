"""Describe counts in words: `parent: reused 509; child: copied 509 (anon)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cowtrace.model import FaultKind, Origin, Snapshot, Source
from cowtrace.numbers import MISSING
from cowtrace.workloads.compare import Row

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
        {
            pid: (those[0].role, fault_words((row.kind, row.expected) for row in those))
            for pid, those in _processes(rows).items()
        }
    )


def observed_words(rows: Iterable[Row], trace: Snapshot) -> str:
    """Each process with the kinds traced; the source of the bytes and the origin if known."""
    return _by_process(
        {
            pid: (those[0].role, _traced(pid, those, trace))
            for pid, those in _processes(rows).items()
        }
    )


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
    parts = [] if source is Source.UNKNOWN else [source.name.lower()]
    if origin is not Origin.USER:
        parts.append(f"by {origin.name.lower()}")
    return f" ({', '.join(parts)})" if parts else ""


def _processes(rows: Iterable[Row]) -> dict[int, list[Row]]:
    by_pid: dict[int, list[Row]] = {}
    for row in rows:
        by_pid.setdefault(row.pid, []).append(row)
    return by_pid


def _by_process(words: Mapping[int, tuple[str, str]]) -> str:
    """Equal processes together: `16 x child: copied 509`."""
    alike: dict[tuple[str, str], int] = {}
    for one in words.values():
        alike[one] = alike.get(one, 0) + 1
    return "; ".join(
        f"{f'{number} x ' if number > 1 else ''}{role}: {what}"
        for (role, what), number in alike.items()
    )
