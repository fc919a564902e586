"""Attribute copies to mappings, code, phases and page sources, and sum the time they took."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from pathlib import PurePath

from cowtrace.analysis.latency import SIDES, timings
from cowtrace.analysis.mappings import label
from cowtrace.analysis.questions.answer import (
    Answer,
    Measure,
    Quality,
    Unit,
    copies,
    largest,
    quality,
    unrecorded,
)
from cowtrace.analysis.questions.stalls import fork_measures
from cowtrace.analysis.stacks import NO_STACK, Node, functions, leaves, stack_tree
from cowtrace.model import COPIES, FaultKind, Source
from cowtrace.recording import Recording
from cowtrace.text import printable

MOST = 6  # mappings, functions
_TIMED = (FaultKind.COPIED, FaultKind.REUSED)
# Phases, and names of functions in CPython, CRuby, glibc and jemalloc. A stack belongs to the first
# phase that any of its calls matches: a collection at exit is shutdown.
_PHASES = (
    ("shutdown", r"Py_Finalize|finalize_modules|ruby_cleanup|^_*run_exit_handlers|^_?exit$"),
    ("garbage collection", r"gc_collect|_PyGC|deduce_unreachable|move_unreachable|update_refs"
     r"|subtract_refs|^gc_(mark|sweep|start|marks)|rb_gc|^gc\.collect"),
    ("allocator", r"^_*(int_)?(malloc|free|realloc|calloc)|_?PyObject_(Malloc|Free)|^je_|arena_"
     r"|malloc_consolidate|unlink_chunk|pymalloc|_PyMem_"),
    ("reference counts", r"Py_(INC|DEC)REF|_Py_Dealloc|list_(iter|slice|item)|listiter_next"
     r"|tupleiter_next"),
)  # fmt: skip


def by_mapping(recording: Recording, most: int | None = MOST) -> Answer:
    """3: heap, stack, anonymous memory, files: the `most` largest, and the sum of the rest."""
    question = "In which mapping?"
    if missing := unrecorded(recording, "mapping", "mappings"):
        return Answer(3, question, missing)
    sums = Counter[str]()
    for row in recording.last.details:
        if row.kind in COPIES:
            sums[mapping_name(label(row.mapping) if row.mapping else None)] += row.bytes
    found = largest(sums, most, copies(recording, details=True), "{:,} others")
    return Answer(3, question, tuple(found), None if found else "Nothing was copied.")


def mapping_name(raw: str | None) -> str:
    """`[heap]`, `libc.so.6`: the last part of a path."""
    if raw is None:
        return "unknown"
    return printable(raw if raw.startswith("[") else PurePath(raw).name or raw)


def by_code(recording: Recording, most: int | None = MOST, tree: Node | None = None) -> Answer:
    """4: phases, then the `most` functions that copied most, from samples of copies."""
    question = "By which code, in which phase?"
    if missing := unrecorded(recording, "samples", "code"):
        return Answer(4, question, missing)
    tree = tree or stack_tree(recording.last, recording.last.samples)
    found = [
        Measure(f"phase: {phase}", copied, Unit.BYTES, Quality.ESTIMATE, phase=phase)
        for phase, copied in _phases(tree)
    ]
    sums = Counter[str]()  # two files of one name can have a function of one name
    for each in functions(tree):
        if each.self_bytes and each.call.name != NO_STACK:
            sums[each.call.label] += each.self_bytes
    first = sums.most_common(most)
    found += [Measure(name, copied, Unit.BYTES, Quality.ESTIMATE) for name, copied in first]
    return Answer(4, question, tuple(found), "From samples of the copies and their stacks.")


def by_source(recording: Recording) -> Answer:
    """7: whether THP, hugetlb or KSM make it worse."""
    question = "Is THP, hugetlb or KSM making it worse?"
    sums = Counter[Source]()
    for process in recording.last.processes:
        for row in process.rows:
            if row.kind in COPIES:
                sums[row.source] += row.bytes
    values = {
        "huge pages (THP)": sums[Source.THP],
        "hugetlb": sums[Source.HUGETLB],
        "KSM": sums[Source.KSM],
    }
    if sums[Source.UNKNOWN] or FaultKind.SHARED in recording.last.unseen:
        # The tracepoint plan, where it reads no page table.
        unseen = (Measure(name, None, Unit.BYTES, Quality.NOT_SEEN) for name in values)
        return Answer(7, question, tuple(unseen))
    values["small pages"] = sums[Source.ANON] + sums[Source.FILE]
    accuracy = copies(recording)
    hidden = {"hugetlb"} if recording.last.plan == "tracepoint" else set()
    found = (
        Measure(name, None, Unit.BYTES, Quality.NOT_SEEN)
        if name in hidden
        else Measure(name, n, Unit.BYTES, accuracy)
        for name, n in values.items()
    )
    return Answer(7, question, tuple(found))


def latency(recording: Recording) -> Answer:
    """8: the time that forks, copies and re-marks cost, by side: parent, child, other."""
    question = "What latency does the parent's write path pay?"
    forks = tuple(fork_measures(recording))
    if missing := unrecorded(recording, "latency", "time in faults", unit=Unit.NS):
        return Answer(8, question, (*missing, *forks))
    found: list[Measure] = []
    for timing in sorted(timings(recording.last), key=lambda t: (SIDES.index(t.side), t.kind)):
        if timing.kind not in _TIMED or not timing.faults:
            continue
        name = f"{timing.side}, {timing.kind.label}"
        accuracy = quality(recording, timing.kind, details=True)
        found.append(Measure(f"{name}, in all", timing.ns, Unit.NS, accuracy, timing.faults))
        for share in (0.5, 0.99):
            below = float(timing.below_ns(share) or 0)  # known: it has faults
            bound = f"{name}, p{share * 100:.0f}"
            found.append(Measure(bound, below, Unit.NS, Quality.UPPER_BOUND))
    note = None if found else "No fault was timed."
    return Answer(8, question, (*found, *forks), note)


def _phases(root: Node) -> tuple[tuple[str, int], ...]:
    """Bytes by phase, the largest first; code without a known phase is left out."""
    sums = Counter[str]()
    for calls, copied in leaves(root):
        first = min((_rank(call.name) for call in calls), default=len(_PHASES))
        if first < len(_PHASES):
            sums[_PHASES[first][0]] += copied
    return tuple(sums.most_common())


@lru_cache(maxsize=1 << 14)
def _rank(name: str) -> int:
    """Index of the first phase that the function belongs to; the number of phases if none."""
    found = (at for at, (_, pattern) in enumerate(_PHASES) if re.search(pattern, name))
    return next(found, len(_PHASES))
