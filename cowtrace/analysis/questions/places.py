"""Sum copies by cgroup, and map host PIDs to container PIDs, from a recording."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from cowtrace.analysis.questions.answer import Measure, copies, largest
from cowtrace.model import Place
from cowtrace.recording import Recording
from cowtrace.text import UNKNOWN_CGROUP, fit_end, printable

_CGROUPS = 5  # shown at most
_NAME = 30


def by_cgroup(recording: Recording) -> list[Measure]:
    """Bytes copied in each cgroup, the largest first; empty if there is only one."""
    sums = Counter[str]()  # by the end of the path, which is what there is room for
    for index, process in enumerate(recording.last.processes):
        if process.copied_bytes:
            path = recording.place(index).cgroup
            name = UNKNOWN_CGROUP if path is None else fit_end(printable(path), _NAME)
            sums[f"in {name}"] += process.copied_bytes
    if len(sums) < 2:
        return []
    found = largest(sums, _CGROUPS, copies(recording), "in {:,} other cgroups")
    return [replace(measure, aside=True) for measure in found]


def contained(recording: Recording) -> dict[int, Place]:
    """By host PID: processes with another container PID; the one that copied most first."""
    found = [
        (process, place)
        for index, process in enumerate(recording.last.processes)
        if (place := recording.place(index)).is_contained(process.pid)
    ]
    found.sort(key=lambda each: -each[0].copied_bytes)
    return {process.pid: place for process, place in found}


def contained_objects(recording: Recording) -> list[dict[str, Any]]:
    """What `contained` finds, as --json writes it."""
    return [
        {"pid": pid, "nspid": place.nspid, "cgroup": place.cgroup}
        for pid, place in contained(recording).items()
    ]
