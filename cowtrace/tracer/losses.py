"""Name the counters of the BPF programs, and sum up what was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cowtrace.model import LOST, Completeness

# enum counter of bpf/cow.h, in order: losses first, then other counts.
COUNTERS = (
    "return missed",
    "entry missed",
    "fault not found",
    "slot taken",
    "sums full",
    "page faults full",
    "processes full",
    "filter full",
    "details full",
    "mappings full",
    "stacks full",
    "generations full",
    "fork not found",
    "events dropped",
    "samples dropped",
    "pid reused",
    "outside faults",
    "zeroed outside faults",
    "checked",
    "check failed",
)
# Runs that the kernel skipped: of programs that count a fault alone, and of entries of pairs.
SKIPPED_PROGRAMS, SKIPPED_ENTRIES = "program busy", "entry skipped"
NO_COUNTS: Mapping[str, int] = {}


def completeness(
    counters: Iterable[int], baseline: Iterable[int], unnamed: Mapping[str, int] = NO_COUNTS
) -> Completeness:
    """What was lost since `baseline`, read when the last probe was attached.

    Both are `enum counter`, then the two counts of skipped runs. `unnamed`: stacks that could not
    be named, by cause.
    """
    names = (*COUNTERS, SKIPPED_PROGRAMS, SKIPPED_ENTRIES)
    since = {name: now - then for name, now, then in zip(names, counters, baseline, strict=True)}
    # Where the return ran, it was counted as "entry missed"; of the rest, neither ran.
    since[SKIPPED_PROGRAMS] += max(0, since.pop(SKIPPED_ENTRIES) - since["entry missed"])
    return Completeness(
        lost=sum(since[name] for name in (*LOST, SKIPPED_PROGRAMS)),
        checked=since["checked"] - since["check failed"],
        detail=tuple((n, c) for n, c in (*since.items(), *unnamed.items()) if c and n != "checked"),
    )
