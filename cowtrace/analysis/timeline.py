"""Turn a recording into tracks in time: when each process lived, forked and copied.

A recording has no times of single faults: their durations are sums over the whole recording.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass

from cowtrace.model import COPIES, ENDED_PID, Ending, ForkGeneration
from cowtrace.recording import Recording
from cowtrace.text import fit, printable

MOST_TRACKS = 10_000  # processes: those that copied most; what more a viewer can show, nobody reads
PID_MAX_LIMIT = 1 << 22  # include/linux/threads.h
_MOST = 100  # terminal cells of a name


@dataclass(frozen=True, slots=True)
class Track:
    """One process. Times in ns since attach."""

    key: int  # its PID; a number above all PIDs where that PID was reused, or is of ended processes
    pid: int
    comm: str  # printable
    copied_bytes: int
    began_ns: int
    ended_ns: int
    begin: str  # what is known of these two times
    end: str
    rates: tuple[tuple[int, int], ...]  # (from this time, bytes copied in the interval)
    sums: tuple[tuple[int, int], ...]  # (from this time, bytes copied since attach)


@dataclass(frozen=True, slots=True)
class Fork:
    """One fork, or its end by exec. `parent` and `child`: keys of tracks; None: it has none."""

    number: int
    at_ns: int
    parent: int | None
    child: int | None
    child_pid: int
    exec_ns: int | None  # since attach


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a trace viewer shows of a recording."""

    tracks: tuple[Track, ...]
    forks: tuple[Fork, ...]
    left_out: int  # processes without a track


def timeline(recording: Recording) -> Timeline:
    """Make the tracks, in the order of the processes."""
    now, began = recording.last, recording.last.attached_ns
    starts = dict(zip(recording.ends, (began, *recording.ends), strict=False))
    # By index of the process; by the end of the interval. Intervals without a copy have none.
    copied: dict[int, dict[int, int]] = defaultdict(dict)
    seen: dict[int, list[int]] = defaultdict(list)  # ends of intervals with any fault
    for point in recording.points:
        seen[point.process].append(point.at_ns)
        if point.kind in COPIES:
            sums = copied[point.process]
            sums[point.at_ns] = sums.get(point.at_ns, 0) + point.bytes
    numbered = enumerate(now.processes)
    chosen = sorted(
        at for at, _ in heapq.nlargest(MOST_TRACKS, numbered, key=lambda one: one[1].copied_bytes)
    )
    # Of a PID that was reused, the newest process has the track of that number, and its forks.
    by_child = {fork.child: fork for fork in now.generations}
    last_fork = {fork.parent: fork.at_ns for fork in now.generations}
    newest = {now.processes[at].pid: at for at in chosen}
    tracks = []
    for at in chosen:
        process = now.processes[at]
        is_newest = newest[process.pid] == at and process.pid != ENDED_PID
        fork = by_child.get(process.pid) if is_newest else None
        first, last = (seen[at][0], seen[at][-1]) if seen[at] else (None, None)
        if fork:
            start, begin = fork.at_ns, "its fork"
        elif process.parent is None or first is None:
            start, begin = began, "attach"
        else:
            start, begin = starts[first], "the first interval in which it is seen"
        if fork and fork.ended_ns is not None and fork.ended_by is Ending.EXIT:
            stop, end = fork.ended_ns, "its exit"
        elif process.exited and last is not None:
            stop = max(last, last_fork.get(process.pid, 0)) if is_newest else last
            end = "the last interval in which it is seen; it has exited"
        else:
            stop, end = now.at_ns, "has exited, unknown when" * process.exited or "still running"
        began_ns = max(0, start - began)
        ended_ns = max(began_ns, stop - began)
        spans = [
            _span(starts[end] - began, end - began, began_ns, ended_ns, value)
            for end, value in copied[at].items()
        ]
        tracks.append(
            Track(
                key=process.pid if is_newest else PID_MAX_LIMIT + 1 + at,
                pid=process.pid,
                comm=fit(printable(process.comm), _MOST),
                copied_bytes=process.copied_bytes,
                began_ns=began_ns,
                ended_ns=ended_ns,
                begin=begin,
                end=end,
                rates=_rates(spans),
                sums=_sums(spans),
            )
        )
    by_pid = {track.pid: track for track in tracks if track.key == track.pid}
    forks = (_fork(each, by_pid, began) for each in now.generations)
    shown = tuple(each for each in forks if (each.parent, each.child) != (None, None))
    return Timeline(tuple(tracks), shown, len(now.processes) - len(tracks))


def _fork(fork: ForkGeneration, by_pid: dict[int, Track], began: int) -> Fork:
    at_ns = max(0, fork.at_ns - began)
    execs = fork.ended_ns is not None and fork.ended_by is Ending.EXEC
    exec_ns = fork.ended_ns - began if fork.ended_ns is not None and execs else None

    def key(pid: int, at_ns: int) -> int | None:
        """None: an earlier process had this PID then."""
        track = by_pid.get(pid)
        return pid if track and track.began_ns <= at_ns <= track.ended_ns else None

    child = key(fork.child, at_ns)
    if exec_ns is not None and key(fork.child, exec_ns) != child:
        exec_ns = None
    return Fork(fork.number, at_ns, key(fork.parent, at_ns), child, fork.child, exec_ns)


def _span(
    start_ns: int, end_ns: int, began_ns: int, ended_ns: int, value: int
) -> tuple[int, int, int]:
    """The part of an interval in which the process lived, and the bytes copied in it."""
    first, last = max(start_ns, began_ns), min(end_ns, ended_ns)
    # The two times may be known from other intervals only: then all of it.
    return (first, last, value) if first < last else (start_ns, end_ns, value)


def _rates(spans: list[tuple[int, int, int]]) -> tuple[tuple[int, int], ...]:
    """A value from the begin of each interval with copies, and 0 after the last in a row."""
    steps: dict[int, int] = {}
    for start_ns, end_ns, value in spans:
        steps[start_ns] = value
        steps[end_ns] = 0  # the next interval, if it has copies, puts its own here
    return tuple(steps.items())


def _sums(spans: list[tuple[int, int, int]]) -> tuple[tuple[int, int], ...]:
    """0 at the begin of the first interval with copies; then the sum at the end of each."""
    found, total = [(start_ns, 0) for start_ns, *_ in spans[:1]], 0
    for _, end_ns, value in spans:
        total += value
        found.append((end_ns, total))
    return tuple(found)
