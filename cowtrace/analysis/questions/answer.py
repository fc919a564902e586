"""Define answers and their measures: frozen values that reports and comparisons render."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass

from cowtrace.model import COPIES, FaultKind
from cowtrace.numbers import MISSING, brief, count, percent, size
from cowtrace.recording import Recording


class Unit(enum.Enum):
    BYTES = "bytes"
    BYTES_PER_SECOND = "bytes/s"
    FAULTS = "faults"
    SHARE = "share"  # 0 to 1
    NS = "ns"


class Quality(enum.Enum):
    """How far a number can be trusted."""

    EXACT = "exact"
    UPPER_BOUND = "upper bound"
    LOWER_BOUND = "lower bound"  # something was lost, or could not be classified
    INCOMPLETE = "incomplete"  # some was lost, some may be counted twice: neither bound
    ESTIMATE = "estimate"  # from samples
    NOT_RECORDED = "not recorded"
    NOT_SEEN = "not seen by this plan"


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of an answer. None: not recorded, or this plan cannot see it; never 0."""

    name: str  # safe to print; the same in every recording, so that two can be compared
    value: float | None
    unit: Unit
    quality: Quality
    faults: int | None = None  # beside bytes
    one_off: bool = False  # means nothing in another recording: a fork by its number
    aside: bool = False  # another division of the answer's bytes, not a part beside the others
    phase: str | None = None  # the phase of the program in which these bytes were copied, if one

    @property
    def text(self) -> str:
        """`45.0 MiB`, `12.3%`."""
        return amount(self.value, self.unit)


@dataclass(frozen=True, slots=True)
class Answer:
    number: int  # 1 to 12; the most frequent question first
    question: str
    measures: tuple[Measure, ...]
    note: str | None = None  # a sentence


def amount(value: float | None, unit: Unit) -> str:
    """Format a value with its unit."""
    if value is None:
        return MISSING
    if unit is Unit.BYTES:
        return size(value, " ")
    if unit is Unit.BYTES_PER_SECOND:
        return f"{size(value, ' ')}/s"
    if unit is Unit.SHARE:
        return percent(value)
    return brief(value) if unit is Unit.NS else count(round(value))


def quality(recording: Recording, *kinds: FaultKind, details: bool = False) -> Quality:
    """How far to trust the counts of these kinds together, or `details`: sums over detail rows."""
    now = recording.last
    if now.unseen.issuperset(kinds):
        return Quality.NOT_SEEN
    # kernel/limits.py: this plan also counts the losers of races and, without a page table, more.
    bounded = {FaultKind.COPIED, FaultKind.REUSED, FaultKind.SHARED}
    above = now.plan == "tracepoint" and bool(bounded & set(kinds))
    done = now.completeness
    if done.lost or now.unclassified or (details and done.lost_details):
        # With that plan, a copy whose allocation was missed is also counted as reused.
        return Quality.INCOMPLETE if above else Quality.LOWER_BOUND
    return Quality.UPPER_BOUND if above else Quality.EXACT


def copies(recording: Recording, *, details: bool = False) -> Quality:
    """How far to trust copied bytes, or sums of them over detail rows."""
    return quality(recording, *COPIES, details=details)


def copied_bytes(recording: Recording) -> int:
    """Bytes copied by all processes."""
    return sum(process.copied_bytes for process in recording.last.processes)


def largest(sums: Counter[str], most: int | None, accuracy: Quality, others: str) -> list[Measure]:
    """The largest sums of bytes by name, and one of the rest; `others`: its name, with `{}`."""
    first = sums.most_common(most)
    found = [Measure(name, copied, Unit.BYTES, accuracy) for name, copied in first]
    rest = sums.total() - sum(copied for _, copied in first)
    if rest:
        name = others.format(len(sums) - len(first))
        found.append(Measure(name, rest, Unit.BYTES, accuracy, one_off=True))
    return found


def absent(recording: Recording, detail: str) -> Quality:
    """Why a recording lacks a detail: it was not requested, or the plan does not support it."""
    asked = detail in recording.header.asked
    return Quality.NOT_SEEN if asked else Quality.NOT_RECORDED


def unrecorded(
    recording: Recording, detail: str, *names: str, unit: Unit = Unit.BYTES
) -> tuple[Measure, ...]:
    """Measures without a value, by name; empty if the recording has the detail."""
    if detail in recording.header.details:
        return ()
    return tuple(Measure(name, None, unit, absent(recording, detail)) for name in names)
