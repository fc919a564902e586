"""Measure what the calls of fork cost, and how long forks stalled their parents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cowtrace.analysis.questions.answer import Measure, Quality, Unit, unrecorded
from cowtrace.analysis.stalls import complete_sum, percentile, stalls
from cowtrace.recording import Recording

_SHARES = (0.5, 0.99)


def fork_measures(recording: Recording) -> Iterator[Measure]:
    """Of all forks: time, mmap lock, page tables; of their parents: the first second, the share."""
    name = "forks, in all"
    if missing := unrecorded(recording, "generation", name, unit=Unit.NS):
        yield from missing
        return
    forks = recording.last.generations
    if not forks:
        return
    timed = [each.fork_ns for each in forks if each.fork_ns is not None]
    tables = [each.page_table_bytes for each in forks if each.page_table_bytes is not None]
    accuracy = _accuracy(recording, complete=len(timed) == len(forks))
    if timed:
        yield Measure(name, sum(timed), Unit.NS, accuracy)
    else:  # a recording without page tables is of an older cowtrace
        why = Quality.NOT_SEEN if tables else Quality.NOT_RECORDED
        yield Measure(name, None, Unit.NS, why)
    yield from _percentiles("fork", timed, accuracy)
    held = [each.lock_ns for each in forks if each.lock_ns is not None]
    yield from _percentiles("fork, mmap lock held", held, Quality.EXACT)
    if (total := complete_sum(*(each.page_table_bytes for each in forks))) is not None:
        yield Measure("page tables that forks made", total, Unit.BYTES, _accuracy(recording))
    first = [each.stall_ns for each in forks if each.stall_ns is not None]
    yield from _percentiles("parent, to 1 s after a fork", first, Quality.EXACT)
    shares = [each.share for each in stalls(recording.last, recording.seconds)]
    if known := [share for share in shares if share is not None]:
        yield Measure("most of any parent's time", max(known), Unit.SHARE, accuracy)


def _percentiles(name: str, times: Iterable[int], accuracy: Quality) -> Iterator[Measure]:
    ordered = sorted(times)
    for share in _SHARES:
        if (value := percentile(ordered, share)) is not None:
            yield Measure(f"{name}, p{share * 100:.0f}", value, Unit.NS, accuracy)


def _accuracy(recording: Recording, *, complete: bool = True) -> Quality:
    """Of times of forks. With the tracepoint plan, each of them begins late."""
    whole = complete and not recording.last.completeness.lost_details
    return Quality.EXACT if whole and recording.last.plan != "tracepoint" else Quality.LOWER_BOUND
