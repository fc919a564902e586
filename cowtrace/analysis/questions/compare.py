"""Compare two recordings, question by question; state whether they are comparable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cowtrace.analysis.questions import answers
from cowtrace.analysis.questions.answer import Measure, Quality, Unit, copied_bytes, copies
from cowtrace.numbers import size
from cowtrace.recording import Recording

_ALIKE = 0.1  # of the longer time: the two are about the same
_FEW_NAMELESS = 0.05  # of the copies: code without a name that casts no doubt
SAME = 0.005  # a smaller change counts as none


@dataclass(frozen=True, slots=True)
class Change:
    """One measure, before and after. None: not in that recording."""

    name: str
    unit: Unit
    before: float | None
    after: float | None

    @property
    def share(self) -> float | None:
        """-0.73: 73 % less. None: a value is missing, or was 0 before."""
        if self.before is None or self.after is None or not self.before:
            return 0.0 if self.before == self.after == 0 else None
        return self.after / self.before - 1


@dataclass(frozen=True, slots=True)
class Section:
    """The changes of one answer's measures."""

    number: int
    question: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    verdict: str  # the first line, in plain words
    doubts: tuple[str, ...]  # why the two may not be comparable, a sentence each
    sections: tuple[Section, ...]


def compare(before: Recording, after: Recording, names: tuple[str, str]) -> Comparison:
    """Compare two recordings. `names` must be safe to print."""
    doubts = tuple(_doubts(before, after, names))
    return Comparison(_verdict(before, after, names), doubts, _sections(before, after))


def _sections(before: Recording, after: Recording) -> tuple[Section, ...]:
    found = []
    # Whole lists: a name can be missing from a cut list although the recording has it.
    for old, new in zip(answers(before, most=None), answers(after, most=None), strict=True):
        was, now = _by_name(old.measures), _by_name(new.measures)
        changes = tuple(
            Change(
                name,
                (was.get(name) or now[name]).unit,
                was[name].value if name in was else _absent(now[name], old.measures),
                now[name].value if name in now else _absent(was[name], new.measures),
            )
            for name in dict.fromkeys((*was, *now))
        )
        known = tuple(c for c in changes if c.before is not None or c.after is not None)
        found.append(Section(old.number, old.question, known or changes))
    return tuple(found)


def _by_name(measures: tuple[Measure, ...]) -> dict[str, Measure]:
    return {measure.name: measure for measure in measures if not measure.one_off}


def _absent(other: Measure, those: tuple[Measure, ...]) -> float | None:
    """The value of a mapping or function that only the other recording has.

    0 where they were recorded. A share, rate or time of what did not happen is None.
    """
    counted = other.unit in (Unit.BYTES, Unit.FAULTS)
    return 0.0 if counted and any(measure.value is not None for measure in those) else None


def _verdict(before: Recording, after: Recording, names: tuple[str, str]) -> str:
    old, new = copied_bytes(before), copied_bytes(after)
    in_time = f"in {after.seconds:,.1f} s against {before.seconds:,.1f} s"
    if not _differ_in_time(before, after):
        in_time = "in about the same time"
    sizes = f"{size(new, ' ')} against {size(old, ' ')}, {in_time}"
    if old == new or (old and abs(new / old - 1) < SAME):
        return f"{names[1]} copied as much as {names[0]}: {sizes}."
    if not old:
        return f"{names[1]} copied more than {names[0]}: {sizes}."
    share = new / old - 1
    times = f"{new / old:,.1f} times as much as"
    how = f"{abs(share) * 100:.0f}% less than" if share < 0 else f"{share * 100:.0f}% more than"
    return f"{names[1]} copied {times if share >= 2 else how} {names[0]}: {sizes}."


def _differ_in_time(before: Recording, after: Recording) -> bool:
    old, new = before.seconds, after.seconds
    return abs(new - old) > _ALIKE * max(old, new)


def _doubts(before: Recording, after: Recording, names: tuple[str, str]) -> Iterator[str]:
    old, new = before.header, after.header
    if _differ_in_time(before, after):
        yield f"They lasted {before.seconds:,.1f} s and {after.seconds:,.1f} s: compare the rates."
    if old.page_bytes != new.page_bytes:
        yield f"Their kernels' pages differ: {old.page_bytes:,} and {new.page_bytes:,} bytes."
    if old.kernel != new.kernel:
        yield f"Their kernels differ: {old.kernel} and {new.kernel}."
    if old.plan != new.plan:
        yield f"Their plans differ, which see more or less: {old.plan} and {new.plan}."
    if (old.command or "") != (new.command or ""):
        yield "Their commands differ."
    for each, name in ((before, names[0]), (after, names[1])):
        accuracy = copies(each)
        if accuracy is Quality.UPPER_BOUND:
            yield f"What {name} copied is an upper bound: threads that race for a page count twice."
        elif accuracy in (Quality.LOWER_BOUND, Quality.INCOMPLETE):
            yield f"{name} is not complete: it lost faults, or could not classify some."
        if each.ended or not each.closed:
            yield f"{name} was not closed: its last interval may be missing."
        if (share := _nameless(each)) > _FEW_NAMELESS:
            yield (
                f"In {name} {share:.0%} of the copies are of code without a name, of processes "
                "that had ended: functions and phases may be missing."
            )


def _nameless(recording: Recording) -> float:
    """The share of sampled copies without a name in their stack: 0 to 1."""
    rows = recording.last.samples
    stacks = ((row.user_stack, row.faults) for row in rows if row.user_stack)
    nameless = sum(faults for stack, faults in stacks if not any(f.module for f in stack))
    return nameless / (sum(row.faults for row in rows) or 1)
