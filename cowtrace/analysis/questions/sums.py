"""Sum how much was copied, by whom and in which cgroup, what may come, and what was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sized
from dataclasses import replace

from cowtrace.analysis.questions.answer import (
    Answer,
    Measure,
    Quality,
    Unit,
    copied_bytes,
    copies,
    largest,
    quality,
    unrecorded,
)
from cowtrace.model import COPIES, FaultKind, Place
from cowtrace.recording import Recording
from cowtrace.text import UNKNOWN_CGROUP, fit_end, printable

_GENERATIONS = 5  # shown at most
_PARENTS, _CHILDREN = "parents, after a fork", "children, since their fork"
_CGROUPS = 5  # shown at most
_CELLS = 30  # of a cgroup's path


def how_much(recording: Recording) -> Answer:
    """1: bytes copied, zero-filled, and pages that were only re-marked."""
    now = recording.last
    found = []
    for name, kinds in (
        ("copied", COPIES),
        ("zero-filled", (FaultKind.ZERO_FILLED,)),
        ("re-marked only", (FaultKind.REUSED,)),
        ("shared memory", (FaultKind.SHARED,)),
    ):
        accuracy = quality(recording, *kinds)
        rows = [row for process in now.processes for row in process.rows if row.kind in kinds]
        faults = max(0, sum(row.faults for row in rows))
        seen = accuracy is not Quality.NOT_SEEN
        if seen and kinds[0] not in (FaultKind.REUSED, FaultKind.SHARED):
            copied = sum(row.bytes for row in rows)
            found.append(Measure(name, copied, Unit.BYTES, accuracy, faults))
        else:
            value = faults if seen else None
            found.append(Measure(f"{name}, faults", value, Unit.FAULTS, accuracy))
    return Answer(1, "How many bytes were really copied, re-marked, zero-filled?", tuple(found))


def by_whom(recording: Recording) -> Answer:
    """2: by parents and children, by fork, and by cgroup."""
    question = "By whom: parent or child, since which fork?"
    if missing := unrecorded(recording, "generation", _PARENTS, _CHILDREN):
        return Answer(2, question, missing)
    now = recording.last
    accuracy = copies(recording, details=True)
    parents = sum(g.parent_copied_bytes for g in now.generations)
    children = sum(g.child_copied_bytes for g in now.generations)
    others = max(0, copied_bytes(recording) - parents - children)
    found = [
        Measure(_PARENTS, parents, Unit.BYTES, accuracy),
        Measure(_CHILDREN, children, Unit.BYTES, accuracy),
        Measure("outside of any fork's sharing", others, Unit.BYTES, accuracy),
    ]
    for each in sorted(now.generations, key=lambda g: -g.copied_bytes)[:_GENERATIONS]:
        if each.copied_bytes:
            seconds = (each.at_ns - now.attached_ns) / 1e9
            name = f"fork {each.number} ({seconds:,.1f} s): {each.parent} > {each.child}"
            found.append(Measure(name, each.copied_bytes, Unit.BYTES, accuracy, one_off=True))
    found += _by_cgroup(recording)
    return Answer(2, question, tuple(found), f"{_forks(now.generations)} recorded.")


def _by_cgroup(recording: Recording) -> list[Measure]:
    """Bytes copied in each cgroup, the largest first; empty if there is only one."""
    sums = Counter[str]()  # by the end of the path: there is no room for more
    for index, process in enumerate(recording.last.processes):
        if process.copied_bytes:
            path = recording.place(index).cgroup
            name = UNKNOWN_CGROUP if path is None else fit_end(printable(path), _CELLS)
            sums[f"in {name}"] += process.copied_bytes
    if len(sums) < 2:
        return []
    found = largest(sums, _CGROUPS, copies(recording), "in {:,} other cgroups")
    return [replace(measure, aside=True) for measure in found]


def contained(recording: Recording) -> dict[int, Place]:
    """By host PID: processes whose container PID differs; the one that copied most first."""
    by_bytes = sorted(enumerate(recording.last.processes), key=lambda each: -each[1].copied_bytes)
    places = ((process.pid, recording.place(index)) for index, process in by_bytes)
    return {pid: place for pid, place in places if place.is_contained(pid)}


def risk(recording: Recording) -> Answer:
    """9: copied so far against the most that can still be copied."""
    question = "Can it end in OOM: copied so far, and the most that may come?"
    so_far = Measure("copied so far", copied_bytes(recording), Unit.BYTES, copies(recording))
    system = tuple(_available(recording))
    name = "may still be copied"
    if missing := unrecorded(recording, "generation", name):
        return Answer(9, question, (so_far, *missing, *system))
    live = [g for g in recording.last.generations if g.ended_ns is None]
    known = [g.worst_case_bytes for g in live if g.worst_case_bytes is not None]
    if len(known) < len(live):  # without one, the sum is no bound
        unknown = Measure(name, None, Unit.BYTES, Quality.NOT_RECORDED)
        return Answer(9, question, (so_far, unknown, *system))
    # Without a fork that found no room, the sum is no bound.
    bound = Quality.INCOMPLETE if recording.last.completeness.lost_details else Quality.UPPER_BOUND
    worst = Measure(name, sum(known), Unit.BYTES, bound)
    note = f"{_forks(live) if live else 'No fork'} still shared at the end."
    if system and live and sum(known) <= (system[0].value or 0):
        note += " What may come fits into the memory available."
    elif system and live:
        note += " What may come is more than the memory available: it can end in OOM."
    return Answer(9, question, (so_far, worst, *system), note)


def _available(recording: Recording) -> Iterator[Measure]:
    """Memory available in the whole system: the limit of a cgroup can be lower."""
    known = [held for held in recording.available if held is not None]
    if known and recording.available[-1] is not None:
        yield Measure("memory available at the end", known[-1], Unit.BYTES, Quality.EXACT)
        yield Measure("memory available, least", min(known), Unit.BYTES, Quality.EXACT)


def trust(recording: Recording) -> Answer:
    """10: what was lost, or could not be classified."""
    now = recording.last
    done = now.completeness
    counts = [("lost", done.lost), ("lost in details", done.lost_details)]
    counts.append(("unclassified", now.unclassified))
    counts += [(f"cause: {printable(cause)}", n) for cause, n in done.causes]
    found = tuple(Measure(name, n, Unit.FAULTS, Quality.EXACT) for name, n in counts)
    if outside := now.in_system_calls:
        names = ("copied in system calls, not seen", "zero-filled there, not seen")
        pairs = zip(names, outside, strict=True)
        found += tuple(Measure(name, n, Unit.FAULTS, Quality.UPPER_BOUND) for name, n in pairs)
    return Answer(10, "Is the trace complete?", found, ending(recording))


def ending(recording: Recording) -> str:
    """State in a sentence how the recording ended."""
    if recording.ended:
        return f"The recording ended early: {printable(recording.ended)}."
    if not recording.closed:
        return "It was not closed: killed, or still running; the last interval may be missing."
    return "The recording ended as it was meant to."


def _forks(forks: Sized) -> str:
    return f"{len(forks):,} fork{'s' * (len(forks) != 1)}"
