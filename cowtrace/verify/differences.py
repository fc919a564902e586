"""Compare the checks of two kernels, or of one kernel before and now: what differs, in words."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.count_words import TOLERANCE, Side, count_words
from cowtrace.workloads.outcome import Evidence

_RANK = (Verdict.FAILS, Verdict.UNSEEN, Verdict.HOLDS)  # from the worst
# What these count differs from run to run, or is what `counts` has.
_NOT_COMPARED = {"taskstats", "rusage", "vmstat", "pagemap", "data"}
_NUMBER = re.compile(r"\d[\d,]{0,18}")
_TOLERATED = 3  # two runs differ by as much in a number of a finding


class Change(enum.Enum):
    """From the first side to the second; the value is what users read."""

    WORSE = "worse"  # it no longer holds, or can no longer be seen
    BETTER = "better"
    CHANGED = "changed"  # the verdict is the same, and what was counted is not
    NEW = "new"  # the first side has no such check
    GONE = "gone"  # the second side has none


@dataclass(frozen=True, slots=True)
class Difference:
    """One check that is not the same on both sides."""

    change: Change
    group: str
    name: str  # of the workload
    words: str
    worse: bool  # a reason for CI to fail


def differences(
    one: Sequence[Check], other: Sequence[Check], labels: tuple[str, str]
) -> tuple[Difference, ...]:
    """What differs, in the order of the checks. labels: of the two sides, as users read them."""
    these, those = by_workload(one), by_workload(other)
    found: list[Difference | None] = []
    for workload in dict.fromkeys((*these, *those)):
        if workload not in these or workload not in those:
            found.append(_only(these.get(workload), those.get(workload), labels))
            continue
        first, *others = pairs(these[workload], those[workload])
        found.append(_difference(*first, labels))
        # Other plans see the same counts: only a verdict of theirs that changed is told.
        for pair in others:
            if pair[0].verdict is not pair[1].verdict:
                found.append(_difference(*pair, labels))
    # What two plans say alike, once.
    return tuple(dict.fromkeys(each for each in found if each))


def pairs(one: Sequence[Check], other: Sequence[Check]) -> list[tuple[Check, Check]]:
    """Checks of one workload by the same plan that sees it; else by any plan, one that sees."""
    by_plan = {check.plan: check for check in other}
    same = [(check, by_plan[check.plan]) for check in one if check.plan in by_plan]
    seen = [pair for pair in same if not any(check.blind for check in pair)]
    return seen or same or [(_seeing(one), _seeing(other))]


def by_workload(checks: Iterable[Check]) -> dict[tuple[str, str], list[Check]]:
    """The checks of each workload, by group and name: one for each plan."""
    found: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        found.setdefault((check.group, check.name), []).append(check)
    return found


def compared_evidence(check: Check) -> tuple[Evidence, ...]:
    """What two runs are compared by, beyond the counts: sizes of pages, bytes in huge pages."""
    return tuple(
        one for one in check.evidence if one.ok is not None and one.oracle not in _NOT_COMPARED
    )


def verdict_words(check: Check) -> str:
    """`does not hold: the reason`."""
    word = "cannot be seen" if check.verdict is Verdict.UNSEEN else check.verdict.value
    return f"{word}: {check.why}" if check.why else word


def _only(
    before: Sequence[Check] | None, now: Sequence[Check] | None, labels: tuple[str, str]
) -> Difference:
    """A workload that one side alone has."""
    check = _seeing(before or now or ())
    words = f"only {labels[before is None]} has it: {verdict_words(check)}"
    change = Change.NEW if before is None else Change.GONE
    worse = change is Change.GONE or check.verdict is Verdict.FAILS
    return Difference(change, check.group, check.name, words, worse)


def _difference(before: Check, now: Check, labels: tuple[str, str]) -> Difference | None:
    words = "; ".join(_words(Side(labels[0], before), Side(labels[1], now)))
    if not words:
        return None
    change = _change(before, now)
    return Difference(change, now.group, now.name, words, change is Change.WORSE)


def _change(before: Check, now: Check) -> Change:
    # A plan that cannot see the path says nothing about the kernel.
    by_plan = before.plan != now.plan and (before.blind or now.blind)
    if before.verdict is now.verdict or by_plan:
        return Change.CHANGED
    worse = _RANK.index(now.verdict) < _RANK.index(before.verdict)
    return Change.WORSE if worse else Change.BETTER


def _words(one: Side, other: Side) -> Iterator[str]:
    if one.check.verdict is not other.check.verdict:
        yield ", ".join(f"{side.label} {verdict_words(side.check)}" for side in (one, other))
    yield from count_words(one, other)
    yield from _evidence_words(one, other)
    # Another plan names other sources.
    if one.check.plan == other.check.plan and not _same_findings(one.check, other.check):
        for side in (one, other):
            yield f"{side.label}: {'; '.join(side.check.findings) or 'no finding'}"


def _same_findings(check: Check, other: Check) -> bool:
    alike = [_NUMBER.sub("0", "\n".join(each.findings)) for each in (check, other)]
    numbers, others = (
        [int(found.replace(",", "")) for found in _NUMBER.findall("\n".join(each.findings))]
        for each in (check, other)
    )
    return alike[0] == alike[1] and all(
        abs(number - another) <= max(_TOLERATED, TOLERANCE * max(number, another))
        for number, another in zip(numbers, others, strict=True)
    )


def _evidence_words(one: Side, other: Side) -> Iterator[str]:
    seen, theirs = (_observed(side.check) for side in (one, other))
    for (oracle, what), values in seen.items():
        others = theirs.get((oracle, what), values)
        if values != others:
            yield (
                f"{oracle}, {what} {', '.join(values)} on {one.label}, "
                f"{', '.join(others)} on {other.label}"
            )


def _observed(check: Check) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for one in compared_evidence(check):
        found.setdefault((one.oracle, one.what), set()).add(str(one.observed))
    return {key: sorted(values) for key, values in found.items()}


def _seeing(checks: Sequence[Check]) -> Check:
    return next((check for check in checks if not check.blind), checks[0])
