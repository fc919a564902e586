"""Sum how much was copied, by whom, how fast, what may come, and what was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cowtrace.analysis.questions.answer import (
    Answer,
    Measure,
    Quality,
    Unit,
    absent,
    copies,
    missing,
    quality,
)
from cowtrace.analysis.questions.places import by_cgroup
from cowtrace.model import COPIES, FaultKind
from cowtrace.numbers import percent, size
from cowtrace.recording import Recording
from cowtrace.text import printable

_GENERATIONS = 5  # shown at most
_PARENTS, _CHILDREN = "parents, after a fork", "children, since their birth"
_LEVEL = 0.5  # of the mean rate: below it in the last quarter, the copying is levelling off
_LEAST_INTERVALS = 8  # for a quarter to mean something


def how_much(recording: Recording) -> Answer:
    """1: bytes really copied, against re-marked, against zero-filled."""
    now = recording.last
    found = []
    for name, kinds in (
        ("copied", COPIES),
        ("zero-filled", (FaultKind.ZERO_FILLED,)),
        ("re-marked only", (FaultKind.REUSED,)),
        ("shared memory", (FaultKind.SHARED,)),
    ):
        accuracy = quality(recording, *kinds)
        if accuracy is Quality.NOT_SEEN:
            found.append(missing(f"{name}, faults", Unit.FAULTS, why=accuracy))
            continue
        rows = [row for process in now.processes for row in process.rows if row.kind in kinds]
        faults = max(0, sum(row.faults for row in rows))
        if kinds[0] in (FaultKind.REUSED, FaultKind.SHARED):
            found.append(Measure(f"{name}, faults", faults, Unit.FAULTS, accuracy))
        else:
            copied = sum(row.bytes for row in rows)
            found.append(Measure(name, copied, Unit.BYTES, accuracy, faults))
    return Answer(1, "How many bytes were really copied, re-marked, zero-filled?", tuple(found))


def by_whom(recording: Recording) -> Answer:
    """2: parent or child, which generation, since which fork."""
    question = "By whom: parent or child, since which fork?"
    if "generation" not in recording.header.details:
        why = absent(recording, "generation")
        return Answer(2, question, (missing(_PARENTS, why=why), missing(_CHILDREN, why=why)))
    now = recording.last
    accuracy = copies(recording)
    parents = sum(g.parent_copied_bytes for g in now.generations)
    children = sum(g.child_copied_bytes for g in now.generations)
    others = max(0, copied_bytes(recording) - parents - children)
    found = [
        Measure(_PARENTS, parents, Unit.BYTES, accuracy),
        Measure(_CHILDREN, children, Unit.BYTES, accuracy),
        Measure("outside of any fork's sharing", others, Unit.BYTES, accuracy),
    ]
    most = sorted(now.generations, key=lambda g: -g.copied_bytes)[:_GENERATIONS]
    for each in most:
        if each.copied_bytes:
            seconds = (each.at_ns - now.attached_ns) / 1e9
            name = f"fork {each.number} ({seconds:,.1f} s): {each.parent} > {each.child}"
            found.append(Measure(name, each.copied_bytes, Unit.BYTES, accuracy, one_off=True))
    found += by_cgroup(recording)
    number = len(now.generations)
    return Answer(2, question, tuple(found), f"{number:,} fork{'s' * (number != 1)} recorded.")


def speed(recording: Recording) -> Answer:
    """5: how fast, levelling off or not, the share of the sharing that is lost."""
    accuracy = copies(recording)
    seconds = recording.seconds
    copied = copied_bytes(recording)
    found = []
    if seconds > 0:
        found.append(Measure("mean", copied / seconds, Unit.BYTES_PER_SECOND, accuracy))
    pace = rates(recording)
    if pace:
        fastest = max(rate for _, rate in pace)
        found.append(Measure("fastest interval", fastest, Unit.BYTES_PER_SECOND, accuracy))
    last = _last_quarter(recording)
    if last is not None and copied:
        found.append(Measure("share of it in the last quarter", last, Unit.SHARE, accuracy))
    lost = [g for g in recording.last.generations if g.share_lost is not None]
    if lost:
        most = max(lost, key=lambda g: g.share_lost or 0)
        found.append(
            Measure(
                "sharing lost, most of any fork", most.share_lost, Unit.SHARE, Quality.UPPER_BOUND
            )
        )
    return Answer(5, "How fast, and is it levelling off?", tuple(found), _trend(last, copied))


def risk(recording: Recording) -> Answer:
    """9: copied so far against the most that can still be copied."""
    question = "Can it end in OOM: copied so far, and the most that may come?"
    so_far = Measure("copied so far", copied_bytes(recording), Unit.BYTES, copies(recording))
    system = tuple(_available(recording))
    why = absent(recording, "generation")
    if "generation" not in recording.header.details:
        return Answer(9, question, (so_far, missing("may still be copied", why=why), *system))
    live = [g for g in recording.last.generations if g.ended_ns is None]
    known = [g.worst_case_bytes for g in live if g.worst_case_bytes is not None]
    if len(known) < len(live):  # without one, the sum is no bound
        return Answer(9, question, (so_far, missing("may still be copied"), *system))
    worst = Measure("may still be copied", sum(known), Unit.BYTES, Quality.UPPER_BOUND)
    number = len(live)
    forks = f"{number:,} fork{'s' * (number != 1)}"
    note = f"{forks} still shared at the end." if live else "No fork still shared at the end."
    if system and live:
        fits = sum(known) <= (system[0].value or 0)
        note += " What may come fits into the memory available." if fits else (
            " What may come is more than the memory available: it can end in OOM."
        )  # fmt: skip
    return Answer(9, question, (so_far, worst, *system), note)


def _available(recording: Recording) -> Iterator[Measure]:
    """Of the whole system: a limit of a cgroup can be lower."""
    known = [held for held in recording.available if held is not None]
    if known and recording.available[-1] is not None:
        yield Measure("memory available at the end", known[-1], Unit.BYTES, Quality.EXACT)
        yield Measure("memory available, least", min(known), Unit.BYTES, Quality.EXACT)


def trust(recording: Recording) -> Answer:
    """10: what was lost, or could not be classified."""
    now = recording.last
    found = [
        Measure("lost", now.completeness.lost, Unit.FAULTS, Quality.EXACT),
        Measure("unclassified", now.unclassified, Unit.FAULTS, Quality.EXACT),
    ]
    found += [
        Measure(f"cause: {printable(cause)}", number, Unit.FAULTS, Quality.EXACT)
        for cause, number in now.completeness.detail
    ]
    return Answer(10, "Is the trace complete?", tuple(found), ending(recording))


def ending(recording: Recording) -> str:
    """How the recording ended, in a sentence."""
    if recording.ended:
        return f"The recording ended early: {printable(recording.ended)}."
    if not recording.closed:
        return "It was not closed: killed, or still running; the last interval may be missing."
    return "The recording ended as it was meant to."


def copied_bytes(recording: Recording) -> int:
    """By all processes."""
    return sum(process.copied_bytes for process in recording.last.processes)


def rates(recording: Recording) -> list[tuple[int, float]]:
    """(CLOCK_MONOTONIC, bytes copied a second until then), for each of its times."""
    sums = Counter[int]()
    for point in recording.points:
        if point.kind in COPIES:
            sums[point.at_ns] += point.bytes
    found = []
    before = recording.last.attached_ns
    for at in recording.ends:
        found.append((at, sums[at] / max(1e-9, (at - before) / 1e9)))
        before = at
    return found


def _last_quarter(recording: Recording) -> float | None:
    """The share of all copies that came in the last quarter of the time; None: too short."""
    if len(recording.times) < _LEAST_INTERVALS:
        return None
    since = recording.last.at_ns - (recording.last.at_ns - recording.last.attached_ns) // 4
    made = [point for point in recording.points if point.kind in COPIES]
    total = sum(point.bytes for point in made)
    late = sum(point.bytes for point in made if point.at_ns > since)
    return late / total if total else None


def _trend(last: float | None, copied: int) -> str | None:
    if not copied:
        return "Nothing was copied."
    if last is None:
        return "Too few intervals to say whether it is levelling off."
    if last < _LEVEL / 4:
        return f"Levelling off: the last quarter of the time brought {percent(last)} of the copies."
    return f"Not levelling off: the last quarter brought {percent(last)} of the copies."


def copied_size(recording: Recording) -> str:
    """`45.0 MiB`."""
    return size(copied_bytes(recording), " ")
