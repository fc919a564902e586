"""Attribute copies to mappings, code and page sources, and sum the time they took."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath

from cowtrace.analysis.latency import SIDES, timings
from cowtrace.analysis.mappings import label
from cowtrace.analysis.questions.answer import (
    Answer,
    Measure,
    Quality,
    Unit,
    absent,
    copies,
    largest,
    missing,
)
from cowtrace.analysis.questions.phases import phases
from cowtrace.analysis.stacks import NO_STACK, Node, functions, stack_tree
from cowtrace.model import COPIES, FaultKind, Source
from cowtrace.recording import Recording
from cowtrace.text import printable

MOST = 6  # mappings, functions
_TIMED = (FaultKind.COPIED, FaultKind.REUSED)


def by_mapping(recording: Recording, most: int | None = MOST) -> Answer:
    """3: heap, stack, anonymous memory, files: the `most` largest, and the sum of the others."""
    question = "In which mapping?"
    if "mapping" not in recording.header.details:
        return Answer(3, question, (missing("mappings", why=absent(recording, "mapping")),))
    sums = Counter[str]()
    for row in recording.last.details:
        if row.kind in COPIES:
            sums[mapping_name(label(row.mapping) if row.mapping else None)] += row.bytes
    found = largest(sums, most, copies(recording), "{:,} others")
    return Answer(3, question, tuple(found), None if found else "Nothing was copied.")


def mapping_name(raw: str | None) -> str:
    """`[heap]`, `libc.so.6`: of a path the last part."""
    if raw is None:
        return "unknown"
    return printable(raw if raw.startswith("[") else PurePath(raw).name or raw)


def by_code(recording: Recording, most: int | None = MOST, tree: Node | None = None) -> Answer:
    """4: which code, in which phase: from samples of copies, the `most` largest functions."""
    question = "By which code, in which phase?"
    if "samples" not in recording.header.details:
        return Answer(4, question, (missing("code"),))
    tree = tree or stack_tree(recording.last, recording.last.samples)
    found = [
        Measure(f"phase: {phase}", copied, Unit.BYTES, Quality.ESTIMATE, phase=phase)
        for phase, copied in phases(tree)
    ]
    sums = Counter[str]()  # two files of one name can have a function of one name
    for each in functions(tree):
        if each.self_bytes and each.call.name != NO_STACK:
            sums[each.call.label] += each.self_bytes
    found += [
        Measure(name, copied, Unit.BYTES, Quality.ESTIMATE)
        for name, copied in sums.most_common(most)
    ]
    return Answer(4, question, tuple(found), "From samples of the copies and their stacks.")


def by_source(recording: Recording) -> Answer:
    """7: whether THP, hugetlb or KSM make it worse."""
    question = "Is THP, hugetlb or KSM making it worse?"
    if recording.last.plan == "tracepoint":
        names = ("huge pages (THP)", "hugetlb", "KSM")
        return Answer(7, question, tuple(missing(n, why=Quality.NOT_SEEN) for n in names))
    sums = Counter[Source]()
    for process in recording.last.processes:
        for row in process.rows:
            if row.kind in COPIES:
                sums[row.source] += row.bytes
    accuracy = copies(recording)
    found = (
        Measure("huge pages (THP)", sums[Source.THP], Unit.BYTES, accuracy),
        Measure("hugetlb", sums[Source.HUGETLB], Unit.BYTES, accuracy),
        Measure("KSM", sums[Source.KSM], Unit.BYTES, accuracy),
        Measure("small pages", sums[Source.ANON] + sums[Source.FILE], Unit.BYTES, accuracy),
    )
    return Answer(7, question, found)


def latency(recording: Recording) -> Answer:
    """8: what the parent's write path pays, the child's apart."""
    question = "What latency does the parent's write path pay?"
    if "latency" not in recording.header.details:
        why = absent(recording, "latency")
        return Answer(8, question, (missing("time in faults", Unit.NS, why),))
    found = []
    for timing in sorted(timings(recording.last), key=lambda t: (SIDES.index(t.side), t.kind)):
        if timing.kind not in _TIMED or not timing.faults:
            continue
        name = f"{timing.side}, {timing.kind.label}"
        found.append(
            Measure(f"{name}, in all", timing.ns, Unit.NS, Quality.EXACT, faults=timing.faults)
        )
        for share in (0.5, 0.99):
            bucket = timing.percentile(share)
            bound = None if bucket is None else float(2 << bucket)
            found.append(
                Measure(f"{name}, p{share * 100:.0f}", bound, Unit.NS, Quality.UPPER_BOUND)
            )
    note = None if found else "No fault was timed."
    return Answer(8, question, tuple(found), note)
