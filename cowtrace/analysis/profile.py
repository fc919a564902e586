"""Sum rows by stack and labels: the samples of a profile, for pprof and OTLP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cowtrace.analysis.mappings import label
from cowtrace.analysis.stacks import Call, path
from cowtrace.model import COPIES, ENDED_PID, DetailRow, FaultKind, Process, Snapshot
from cowtrace.recording import Recording
from cowtrace.text import fit, printable

COPIED = (("copied_bytes", "bytes"), ("copied_pages", "count"))  # name, unit
_COUNTED = {FaultKind.REUSED: "reused_faults", FaultKind.ZERO_FILLED: "zero_filled"}
_MOST = 200  # terminal cells of a label

Labels = tuple[tuple[str, str | int], ...]  # name, value; printable


@dataclass(frozen=True, slots=True)
class Sample:
    """What one stack under the same labels did."""

    calls: tuple[Call, ...]  # the outermost first; the process name alone where stacks are absent
    labels: Labels
    values: tuple[int, ...]  # one for each of Profile.types


@dataclass(frozen=True, slots=True)
class Profile:
    """All samples, and what their values are."""

    types: tuple[tuple[str, str], ...]  # name, unit
    samples: tuple[Sample, ...]


def profile(
    now: Snapshot, rows: Iterable[DetailRow], cgroups: Mapping[int, str], *, copies_only: bool
) -> Profile:
    """Sum up rows of a snapshot. `cgroups`: by PID, those that are known.

    `copies_only`: the rows lack all other kinds, as samples do; else reused and zero-filled faults
    are counted if the plan sees them.
    """
    counted = [] if copies_only else [kind for kind in _COUNTED if kind not in now.unseen]
    types = (*COPIED, *((_COUNTED[kind], "count") for kind in counted))
    names = {process.pid: printable(process.comm) for process in now.processes}
    sums: dict[tuple[tuple[Call, ...], Labels], list[int]] = {}
    for row in rows:
        copied = row.bytes if row.kind in COPIES else 0
        values = [copied, copied // now.page_bytes]
        values += [row.faults if row.kind is kind else 0 for kind in counted]
        if any(values):
            name = names.get(row.pid, "?")
            stacked = row.user_stack or row.kernel_stack
            key = path(row) if stacked else (Call(name, ""),), _labels(row, name, cgroups)
            before = sums.get(key)
            sums[key] = [a + b for a, b in zip(before, values, strict=True)] if before else values
    return Profile(types, tuple(Sample(*key, tuple(values)) for key, values in sums.items()))


def recorded(recording: Recording) -> tuple[tuple[DetailRow, ...], bool]:
    """The rows of a recording that say most of the code, and whether they are samples of copies.

    Those with stacks, else those by mapping, else the plain sums of each process.
    """
    now = recording.last
    if now.samples:
        return now.samples, True
    return now.details or tuple(row for each in now.processes for row in _sums(each)), False


def _sums(process: Process) -> Iterable[DetailRow]:
    for row in process.rows:
        yield DetailRow(
            pid=process.pid,
            kind=row.kind,
            source=row.source,
            origin=row.origin,
            generation=None,
            mapping=None,
            user_stack=None,
            kernel_stack=None,
            latency=None,
            faults=row.faults,
            bytes=row.bytes,
            ns=None,
        )


def _labels(row: DetailRow, name: str, cgroups: Mapping[int, str]) -> Labels:
    """What is known of a row."""
    written = row.written
    words = {
        "comm": name,
        "cgroup": cgroups.get(row.pid),
        "mapping": label(row.mapping) if row.mapping else None,
        "cause": written.cause.value if written else None,
        "type": written.type if written else None,
        "phase": written.phase.value if written and written.phase else None,
    }
    found = tuple((key, fit(printable(word), _MOST)) for key, word in words.items() if word)
    return found if row.pid == ENDED_PID else (*found, ("pid", row.pid))
