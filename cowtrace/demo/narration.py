"""Describe the acts in sentences that say what was observed, never what was expected."""

from __future__ import annotations

from collections.abc import Sequence

from cowtrace.demo.acts import KINDS, Act, Played
from cowtrace.model import FaultKind
from cowtrace.numbers import duration, size

COPIED, ZERO_FILLED, REUSED, SHARED = KINDS

OPENING = (
    "After a fork, parent and child share their memory. Then one of them writes, then the other. "
    'Two answers are common: "both of them get a copy", and "only the first one to write does". '
    "Here is what this kernel does."
)


_ANNOUNCEMENTS = {
    Act.FILL: "A parent writes {pages:,} pages of new memory.",
    Act.READ_THEN_WRITE: "It reads {untouched:,} pages that it never wrote, then writes them.",
    Act.FORK: "It forks.",
    Act.CHILD_WRITES_HALF: (
        "The child writes one byte in each page of the first half: {half:,} pages."
    ),
    Act.PARENT_WRITES_SAME_HALF: "The parent writes the same {half:,} pages.",
    Act.PARENT_WRITES_OTHER_HALF: "The parent writes the other half, which the child did not.",
    Act.SHARED_FILL: (
        "A new parent writes {shared:,} pages that are shared on purpose (MAP_SHARED)."
    ),
    Act.SHARED_FORK: "It forks.",
    Act.SHARED_CHILD_WRITES: "Its child writes all {shared:,} of them.",
}


def announce(act: Act, pages: int) -> str:
    """Say what is about to happen; `pages` is --pages."""
    numbers = {"half": pages // 2, "shared": pages // 10, "untouched": pages // 4}
    return _ANNOUNCEMENTS[act].format(pages=pages, **numbers)


def describe(played: Played) -> str:
    """Say what was observed, and what it means."""
    act, answer = played.act, played.answer
    copied = played.traced[COPIED]
    parts = [_counts(played) + "."]
    if act in (Act.FILL, Act.SHARED_FILL) and copied == 0:
        parts.append("There was nothing to copy: each page was new.")
    elif act is Act.READ_THEN_WRITE and played.traced[ZERO_FILLED] == answer.pages:
        parts.append("Before, all of them were one page of zeroes; now each has a new page.")
    elif act in (Act.FORK, Act.SHARED_FORK) and copied == 0:
        parts.append(f"It took {duration(answer.spent_ns)} and copied none of the pages.")
        if answer.same_frames == answer.pages:
            parts.append("Both processes have the same pages.")
    elif act is Act.CHILD_WRITES_HALF and copied == answer.pages:
        parts.append(f"One byte written, one whole page of {played.page_bytes:,} bytes copied.")
        if answer.data_right:
            parts.append("The parent still reads its own bytes.")
    elif act is Act.PARENT_WRITES_SAME_HALF:
        parts.append(_second_writer(played))
    elif act is Act.PARENT_WRITES_OTHER_HALF and copied == answer.pages:
        parts.append("The first to write a page pays for its copy, child or parent.")
    elif act is Act.SHARED_CHILD_WRITES and copied == 0:
        if answer.data_right:
            parts.append("The parent reads what the child wrote.")
        if answer.same_frames == answer.pages:
            parts.append("Both still have the same pages.")
    if not answer.data_right:
        parts.append("BUT THE OTHER PROCESS READS THE WRONG BYTES.")
    return " ".join(parts)


def conclusion(story: Sequence[Played]) -> str:
    """Say which of the two answers holds here."""
    second = next(played for played in story if played.act is Act.PARENT_WRITES_SAME_HALF)
    copied, reused, pages = second.traced[COPIED], second.traced[REUSED], second.answer.pages
    if copied == 0 and reused == pages:
        answer = (
            "So here only the first one to write gets a copy. The other one is then alone with "
            "the old page: its write faults as well, but is only marked writable."
        )
    elif copied == pages:
        answer = "So on this kernel both of them got a copy."
    else:
        answer = "So on this kernel the second writer got a copy of some pages, not of others."
    copies = _sum(story, COPIED)
    faults = copies + _sum(story, ZERO_FILLED) + _sum(story, REUSED)
    if faults > copies:
        answer += (
            " A tool that takes every write-protection fault for a copy counts "
            f"{faults:,}, not {copies:,}."
        )
    return answer


def evidence(story: Sequence[Played], lost: int) -> str:
    """Say whether pagemap, which is independent of the trace, agrees with it."""
    noted = [played.answer.pagemap for played in story if played.answer.pagemap]
    if not noted:
        return "Not checked: frame numbers in /proc/PID/pagemap are hidden without CAP_SYS_ADMIN."
    differing = [(played.act, *d) for played in story for d in played.disagreements]
    if differing:
        cases = "; ".join(
            f"{act.command}: {kind.label} {traced:,} traced, {seen:,} in pagemap"
            for act, kind, traced, seen in differing
        )
        return f"/proc/PID/pagemap DISAGREES. {cases}."
    if lost:
        return f"NOT COMPLETE: the trace lost {lost:,} faults."
    moved = sum(n.copied or 0 for n in noted) + sum(n.zero_filled or 0 for n in noted)
    kept = sum(n.reused or 0 for n in noted)
    return (
        f"/proc/PID/pagemap, which is independent of the trace, agrees: {moved:,} pages are in "
        f"another frame than before their write, {kept:,} in the same."
    )


def nanoseconds(story: Sequence[Played], kind: FaultKind) -> float | None:
    """Mean time to write a page in the acts in which all pages were of that kind.

    Acts that touch pages for the first time are left out: their faults find no page mapped.
    """
    later = [played for played in story if played.act not in (Act.FILL, Act.SHARED_FILL)]
    alike = [p.answer for p in later if p.traced[kind] and p.traced[kind] == p.answer.pages]
    pages = sum(answer.pages for answer in alike)
    return sum(answer.spent_ns for answer in alike) / pages if pages else None


def _sum(story: Sequence[Played], kind: FaultKind) -> int:
    return sum(played.traced[kind] or 0 for played in story)


def _second_writer(played: Played) -> str:
    copied, reused, pages = played.traced[COPIED], played.traced[REUSED], played.answer.pages
    if reused == pages and not copied:
        return "The child has its own copies, so the parent's pages are exclusive: only re-marked."
    if copied == pages:
        return "This kernel copies them once more, though the child has its own copies."
    return "This kernel copies some once more, though the child has its own copies."


def _counts(played: Played) -> str:
    """`copied 10,000 (39.1 MiB)`; every kind that occurred, and copied in any case."""
    copied = played.traced[COPIED]
    if copied is None:
        parts = ["copied -"]
    elif copied:
        parts = [f"copied {copied:,} ({size(copied * played.page_bytes, ' ')})"]
    else:
        parts = ["copied 0"]
    rest = ((kind, played.traced[kind]) for kind in KINDS[1:])
    parts += [f"{kind.label} {number:,}" for kind, number in rest if number]
    return ", ".join(parts)
