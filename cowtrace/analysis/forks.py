"""Compute rates and trends of fork generations; arrange them as a tree."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cowtrace.model import ForkGeneration, Process, Snapshot

WINDOW = 3  # intervals
_WIDEST = 64  # cells of indentation: a tree deeper than 32 forks is indented no further


class Trend(enum.Enum):
    """Where the copies of a fork are heading; see `trend`."""

    GROWS = "grows"
    SLOWS = "slows"  # levelling off
    STILL = "still"
    ENDED = "ended"


def trend(generation: ForkGeneration, copied: Sequence[tuple[int, int]]) -> Trend | None:
    """The trend of a fork; `copied`: (CLOCK_MONOTONIC ns, bytes) at the last snapshots.

    SLOWS (levelling off): the rate of the last three intervals is below half of the mean since
    the fork. STILL: nothing was copied in them. None: too early to say.
    """
    if generation.ended_ns is not None:
        return Trend.ENDED
    if len(copied) < 2:
        return None
    (since_ns, been), (now_ns, total) = copied[-1 - WINDOW :][0], copied[-1]
    if total == been:
        return Trend.STILL
    recent = (total - been) / max(1, now_ns - since_ns)
    mean = total / max(1, now_ns - generation.at_ns)
    return Trend.SLOWS if recent < mean / 2 else Trend.GROWS


@dataclass(frozen=True, slots=True)
class ForkRow:
    generation: ForkGeneration
    parent: Process | None  # None: the tracer dropped it
    child: Process | None
    seconds: float  # age, or how long it lasted
    rate: float | None  # bytes copied per second, both sides; None: it has ended
    trend: Trend | None


@dataclass(frozen=True, slots=True)
class TreeLine:
    """A line of the tree. `row` None: a root, the parent of forks but the child of none."""

    branch: str  # `├─ `, `│  └─ `; empty for a root
    pid: int
    process: Process | None
    row: ForkRow | None


def fork_rows(history: Sequence[Snapshot], before: Snapshot | None) -> tuple[ForkRow, ...]:
    """The forks of the newest snapshot: live ones first, then by copied bytes.

    `history`: the last snapshots, the newest at its end. A rate begins at `before`, or at the
    fork if that is later.
    """
    now = history[-1]
    processes = {process.pid: process for process in now.processes}
    looks: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for look in list(history)[-1 - WINDOW :]:
        for generation in look.generations:
            looks[generation.number].append((look.at_ns, generation.copied_bytes))
    earlier = {g.number: g.copied_bytes for g in before.generations} if before else {}
    rows = []
    for generation in now.generations:
        ended = generation.ended_ns is not None
        until_ns = now.at_ns if generation.ended_ns is None else generation.ended_ns
        since_ns = max(before.at_ns if before else 0, generation.at_ns)
        copied = max(0, generation.copied_bytes - earlier.get(generation.number, 0))
        rate = copied / (now.at_ns - since_ns) * 1e9 if now.at_ns > since_ns else None
        rows.append(
            ForkRow(
                generation=generation,
                parent=processes.get(generation.parent),
                child=processes.get(generation.child),
                seconds=max(0, until_ns - generation.at_ns) / 1e9,
                rate=None if ended else rate,
                trend=trend(generation, looks[generation.number]),
            )
        )

    def order(row: ForkRow) -> tuple[bool, int, int]:
        of = row.generation
        return of.ended_ns is not None, -of.copied_bytes, -of.number

    return tuple(sorted(rows, key=order))


def tree(rows: Iterable[ForkRow]) -> tuple[TreeLine, ...]:
    """Place each row under its parent's, the rows of one parent in the order of the forks.

    Not recursive: traced processes choose the depth.
    """
    by_parent: dict[int, list[ForkRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.generation.number):
        by_parent[row.generation.parent].append(row)
    children = {row.generation.child for forks in by_parent.values() for row in forks}
    lines: list[TreeLine] = []
    placed: set[int] = set()
    rest: list[tuple[ForkRow, str, bool]] = []

    def put(pid: int, indent: str, after: int = 0) -> list[ForkRow]:
        """Add the forks of a parent that are later than number `after` and not placed yet."""
        forks = [row for row in by_parent.get(pid, ()) if row.generation.number > after]
        forks = [row for row in forks if row.generation.number not in placed]
        placed.update(row.generation.number for row in forks)
        rest.extend((row, indent, row is forks[-1]) for row in reversed(forks))
        return forks

    roots = [pid for pid in by_parent if pid not in children]
    # A pid that was reused can make a circle, which has no root: it is broken at its first fork.
    for root in (*roots, *by_parent):
        if forks := put(root, ""):
            lines.append(TreeLine("", root, forks[0].parent, None))
        while rest:
            row, indent, last = rest.pop()
            child = row.generation.child
            lines.append(TreeLine(indent + ("└─" if last else "├─"), child, row.child, row))
            deeper = (indent + ("  " if last else "│ "))[:_WIDEST]
            put(child, deeper, after=row.generation.number)
    return tuple(lines)
