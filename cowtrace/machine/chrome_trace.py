"""Write a timeline as a Chrome trace: JSON that ui.perfetto.dev and chrome://tracing open.

The Trace Event Format defines the fields: ph is the kind of an event, ts its time in µs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from cowtrace import __version__
from cowtrace.analysis.timeline import Timeline, Track
from cowtrace.model import ENDED_PID
from cowtrace.recording import Recording
from cowtrace.text import printable

_Event = dict[str, Any]
# Counters. Perfetto adds the name of their only value, "bytes", and sorts them by name.
_INTERVAL, _TOTAL = "in the interval: copied", "since attach: copied"
# A string that ends with a backslash, or any other escape, which is skipped.
_ESCAPE = re.compile(r"""(\\\\)(?=")|\\.""")
_LEAST_NS = 1_000  # of a slice: an arrow ends at none that has no duration


def write_chrome_trace(stream: TextIO, recording: Recording, timeline: Timeline) -> None:
    """Write one event a line. Times are CLOCK_MONOTONIC's, since attach."""
    header, done = recording.header, recording.last.completeness
    about = {
        "exporter": f"cowtrace {__version__}",
        "kernel": printable(header.kernel),
        "plan": printable(header.plan),
        "attached_unix_ns": header.started_unix_ns,
        "lost": done.lost,
        "lost_details": done.lost_details,
        "processes_left_out": timeline.left_out,
    }
    stream.write(f'{{"displayTimeUnit": "ms", "otherData": {_json(about)},\n"traceEvents": [')
    between = "\n"
    for event in _events(timeline):
        stream.write(between + _json(event))
        between = ",\n"
    stream.write("\n]}\n")


def _events(timeline: Timeline) -> Iterator[_Event]:
    for order, track in enumerate(timeline.tracks):
        # Perfetto adds the number of the track to both names: the PID, unless that was reused.
        has_its_pid = track.pid in (track.key, ENDED_PID)
        name = track.comm if has_its_pid else f"{track.comm} (earlier PID {track.pid})"
        yield _named("process_name", track, name=name)
        yield _named("process_sort_index", track, sort_index=order)
        yield _named("thread_name", track, name=track.comm)
    # An arrow is bound to the slice that began before it in the file.
    for track in timeline.tracks:
        duration_ns = max(_LEAST_NS, track.ended_ns - track.began_ns)
        yield _at(track.began_ns, track.key, "X", track.comm) | {
            "dur": _us(duration_ns),
            "args": {
                "pid": track.pid,
                "copied_bytes": track.copied_bytes,
                "begin": track.begin,
                "end": track.end,
            },
        }
    for fork in timeline.forks:
        name, ident = f"fork {fork.number}", {"cat": "fork", "id": fork.number}
        if fork.parent is not None:
            about = {"child_pid": fork.child_pid}
            yield _at(fork.at_ns, fork.parent, "i", name) | {"s": "t", "args": about}
            if fork.child is not None:
                yield _at(fork.at_ns, fork.parent, "s", "fork") | ident
                yield _at(fork.at_ns, fork.child, "f", "fork") | ident | {"bp": "e"}
        if fork.child is not None and fork.exec_ns is not None:
            yield _at(fork.exec_ns, fork.child, "i", "exec") | {"s": "t"}
    for track in timeline.tracks:
        for name, steps in (_INTERVAL, track.rates), (_TOTAL, track.sums):
            for at_ns, value in steps:
                yield _at(at_ns, track.key, "C", name) | {"args": {"bytes": value}}


def _at(ns: int, key: int, kind: str, name: str) -> _Event:
    """An event of the only thread of a track."""
    return {"ph": kind, "name": name, "cat": "cowtrace", "ts": _us(ns), "pid": key, "tid": key}


def _named(what: str, track: Track, **args: str | int) -> _Event:
    return _at(0, track.key, "M", what) | {"cat": "__metadata", "args": args}


def _json(value: _Event) -> str:
    r"""JSON without what versions of Perfetto refuse.

    v52 takes the quote after a string's last ``\\`` for an escaped one, and refuses the file
    (google/perfetto#3361); newer ones refuse ``\ud83d\ude00``, an escaped surrogate pair.
    """
    text = json.dumps(value, ensure_ascii=False)
    return _ESCAPE.sub(lambda found: r"\u005c" if found[1] else found[0], text)


def _us(ns: int) -> float:
    return round(ns / 1000, 3)
