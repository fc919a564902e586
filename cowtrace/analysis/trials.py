"""Compare variants of a command, each run several times: what differs, and by how much at least."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cowtrace.analysis import intervals
from cowtrace.analysis.latency import timings
from cowtrace.analysis.questions.answer import Quality, Unit, amount, copies
from cowtrace.analysis.questions.compare import SAME
from cowtrace.analysis.questions.sums import how_much
from cowtrace.model import FaultKind
from cowtrace.recording import Recording

CONFIDENCE = 0.95  # of all intervals of a comparison together
COPIED, WALL, _PEAK = "copied", "wall time", "peak memory"
# What is compared, by its name in tables and in --json.
UNITS: Mapping[str, Unit] = {
    COPIED: Unit.BYTES,
    "zero-filled": Unit.BYTES,
    "re-marked faults": Unit.FAULTS,
    "time in write faults": Unit.NS,
    _PEAK: Unit.BYTES,
    "peak private memory": Unit.BYTES,
    WALL: Unit.NS,
}
_NAMES = {"re-marked only, faults": "re-marked faults"}  # of a report's measures
_TIMED = (FaultKind.COPIED, FaultKind.REUSED, FaultKind.ZERO_FILLED)


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest sums over all processes of a run, as sampled, in bytes. None: never sampled."""

    pss: int | None = None  # resident memory; shared pages count once
    private: int | None = None  # that one process maps alone


@dataclass(frozen=True, slots=True)
class Run:
    """One counted run."""

    block: int  # from 1; each block has one run of each variant
    values: Mapping[str, float | None]  # by the names of UNITS
    complete: bool  # nothing was lost or unclassified


@dataclass(frozen=True, slots=True)
class Difference:
    """One quantity: the means of both variants, and the interval of their difference."""

    name: str
    unit: Unit
    base: float | None  # None: in a run, it was not recorded, or this plan cannot see it
    value: float | None
    relative: bool = True  # False: change, low and high are differences; a base was 0
    change: float | None = None  # -0.73: 73 % less
    low: float | None = None  # None: too few runs for an interval
    high: float | None = None

    @property
    def is_shown(self) -> bool:
        """True if the interval leaves out "no difference", and shares up to SAME.

        Counts can be exact: a page more, from a longer variable, would be a difference each time.
        """
        if self.low is None or self.high is None:
            return False
        least = SAME if self.relative else 0.0
        return self.low > least or self.high < -least


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant against the first one."""

    base: str
    name: str
    verdict: str
    differences: tuple[Difference, ...]


def run_of(recording: Recording, peak: Peak, block: int) -> Run:
    """Take what is compared from the recording of one run."""
    values: dict[str, float | None] = dict.fromkeys(UNITS)
    for each in how_much(recording).measures:
        name = _NAMES.get(each.name, each.name)
        if name in UNITS:
            values[name] = each.value
    if "latency" in recording.header.details:
        took = (each.ns for each in timings(recording.last) if each.kind in _TIMED)
        values["time in write faults"] = sum(took)
    values |= {_PEAK: peak.pss, "peak private memory": peak.private}
    values[WALL] = recording.seconds * 1e9
    complete = copies(recording) not in (Quality.LOWER_BOUND, Quality.INCOMPLETE)
    return Run(block, values, complete)


def compare(runs: Mapping[str, Sequence[Run]], seed: int) -> tuple[Comparison, ...]:
    """Compare each variant with the first. `runs`: by name, which must be safe to print.

    All intervals hold together with CONFIDENCE: each of K has 1 - (1 - CONFIDENCE) / K, by
    Bonferroni. Without this, one of twenty rows would name a difference where there is none.
    """
    base, *others = runs
    groups = {
        (other, name): (_values(runs[base], name), _values(runs[other], name))
        for other in others
        for name in UNITS
    }
    compared = sum(None not in pair for pair in groups.values())
    confidence = 1 - (1 - CONFIDENCE) / max(1, compared)
    found = []
    for other in others:
        rows = tuple(_difference(name, *groups[other, name], confidence, seed) for name in UNITS)
        found.append(Comparison(base, other, _verdict(base, other, rows), rows))
    return tuple(found)


def doubts(runs: Mapping[str, Sequence[Run]]) -> Iterator[str]:
    """Why the numbers may not be comparable, a sentence each."""
    for name, each in runs.items():
        if lossy := sum(not run.complete for run in each):
            yield f"{lossy} of {len(each)} runs of {name} lost faults, or could not classify some."
        unsampled = sum(run.values[_PEAK] is None for run in each)
        if 0 < unsampled < len(each):
            yield f"{unsampled} of {len(each)} runs of {name} ended before memory was sampled."
    if (fewest := min(map(len, runs.values()))) < intervals.LEAST:
        runs_each = f"{fewest} run{'s' * (fewest != 1)}"
        yield f"{runs_each} of a variant: an interval takes {intervals.LEAST} of each."


def _values(runs: Sequence[Run], name: str) -> tuple[float, ...] | None:
    """None: there is no run, or one lacks it."""
    values = [run.values[name] for run in runs]
    known = tuple(value for value in values if value is not None)
    return known if known and len(known) == len(values) else None


def _difference(
    name: str,
    base: Sequence[float] | None,
    other: Sequence[float] | None,
    confidence: float,
    seed: int,
) -> Difference:
    was, now = (math.fsum(each) / len(each) if each else None for each in (base, other))
    if base is None or other is None:
        return Difference(name, UNITS[name], was, now)
    low: float | None = None
    high: float | None = None
    if min(len(base), len(other)) >= intervals.LEAST:
        low, high = intervals.interval(base, other, confidence, seed)
    relative, change = intervals.is_relative(base), intervals.change(base, other)
    return Difference(name, UNITS[name], was, now, relative, change, low, high)


def _verdict(base: str, other: str, rows: Sequence[Difference]) -> str:
    """A sentence on what was copied, and on the time."""
    by_name = {row.name: row for row in rows}
    copied, wall = by_name[COPIED], by_name[WALL]
    if copied.low is None or copied.high is None:
        return f"{other} against {base}: too few runs to tell."
    if copied.is_shown:
        first = f"{other} copied {_words(copied)} than {base}"
    else:
        first = f"{other} against {base}: no difference shown in copied bytes"
    took = f"it took {_words(wall)} time" if wall.is_shown else "no difference shown in time"
    return f"{first}; {took}."


def _words(row: Difference) -> str:
    """`71.2% less (at least 69.9%)`."""
    change, low, high = row.change or 0, row.low or 0, row.high or 0
    least = min(abs(low), abs(high))
    how = "less" if change < 0 else "more"
    if not row.relative:
        return f"{amount(abs(change), row.unit)} {how} (at least {amount(least, row.unit)})"
    return f"{abs(change):.1%} {how} (at least {least:.1%})"
