"""A recording -> in which cgroups was copied, and which pids its processes have in containers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from cowtrace.model import Place
from cowtrace.recording.values import Recording
from cowtrace.views.answers.values import Measure, Unit, copies
from cowtrace.views.containers import UNKNOWN
from cowtrace.views.text import fit_end, printable

IN = "in "  # before the cgroup
_CGROUPS = 5  # shown at most
_NAME = 30


def by_cgroup(recording: Recording) -> Iterator[Measure]:
    """Bytes copied in each, the most first; nothing where all were copied in one."""
    told = copies(recording)
    sums = Counter[str]()  # by the end of the path, which is what there is room for
    for index, process in enumerate(recording.last.processes):
        if process.copied_bytes:
            path = recording.place(index).cgroup
            where = UNKNOWN if path is None else fit_end(printable(path), _NAME)
            sums[where] += process.copied_bytes
    if len(sums) < 2:
        return
    first = sums.most_common(_CGROUPS)
    for where, copied in first:
        yield Measure(f"{IN}{where}", copied, Unit.BYTES, told)
    rest = sums.total() - sum(copied for _, copied in first)
    if rest:
        others = f"{IN}{len(sums) - len(first):,} other cgroups"
        yield Measure(others, rest, Unit.BYTES, told, one_off=True)


def contained(recording: Recording) -> dict[int, Place]:
    """By pid: those that have another one where they run; the one that copied most first."""
    found = [
        (process, place)
        for process, place in zip(recording.last.processes, recording.places, strict=False)
        if place.is_contained(process.pid)
    ]
    found.sort(key=lambda each: -each[0].copied_bytes)
    return {process.pid: place for process, place in found}


def contained_objects(recording: Recording) -> list[dict[str, Any]]:
    """The same for --json."""
    return [
        {"pid": pid, "nspid": place.nspid, "cgroup": place.cgroup}
        for pid, place in contained(recording).items()
    ]
