"""Write a Snapshot as one JSON object on one line.

Fields of the object (times in nanoseconds of CLOCK_MONOTONIC; counts are sums since attach):

- `at_ns`, `attached_ns`, `plan`, `kernel`, `page_bytes`
- `unseen`: the kinds that the plan cannot see; their counts are null, never 0
- `lost`, `lost_by_cause` (cause: count)
- `unclassified`: faults of no known kind, of the processes below
- `processes`: a list of objects:
    - `pid` (the host PID: the kernel's tgid), `comm` (as the process wrote it, escaped as JSON),
      `parent` (null if created before attach), `exited`
    - `nspid` (its container PID; outside of containers its host PID), `cgroup` (its path); null
      when it had ended before it was looked at, `cgroup` is then an ancestor's
    - `faults`: copy-on-write faults; the sum of the next eight
    - `copied`, `file_copied`, `zero_filled`, `reused`, `shared`, `unchanged`, `failed`,
      `unclassified`
    - `copied_bytes`, and `copied_bytes_per_second` since the object before (since attach in
      the first)
    - `page_faults`: `user`, `kernel`, `write_protect` of all page faults, or null
    - `rows`: the faults apart by `kind`, `source` (null: unknown), `origin`, `actor` (the pid
      that made a remote write, else null), each with `faults` and `bytes`

Fields are added, never renamed.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TextIO

from cowtrace.analysis.latency import timings
from cowtrace.analysis.rates import Rates, per_second
from cowtrace.model import (
    COPIES,
    FaultKind,
    FaultRow,
    Place,
    PlaceOf,
    Process,
    Snapshot,
    Source,
    unknown_place,
)


def write(
    stream: TextIO,
    now: Snapshot,
    before: Snapshot | None = None,
    place_of: PlaceOf = unknown_place,
    *,
    latency: bool = False,
) -> None:
    """Write one line and flush it, so that a reader sees each interval at once."""
    fields = as_object(now, before, place_of)
    if latency:
        fields |= latency_of(now)
    stream.write(json.dumps(fields) + "\n")
    stream.flush()


def as_object(
    now: Snapshot, before: Snapshot | None = None, place_of: PlaceOf = unknown_place
) -> dict[str, Any]:
    """The object of one line. `place_of`: where a process runs."""
    rates = per_second(now, before)
    return head(now) | {
        "processes": [_process(process, rates, place_of(process)) for process in now.processes],
    }


def head(now: Snapshot) -> dict[str, Any]:
    """What is true of the whole trace."""
    done = now.completeness
    return {
        "at_ns": now.at_ns,
        "attached_ns": now.attached_ns,
        "plan": now.plan,
        "kernel": now.kernel,
        "page_bytes": now.page_bytes,
        "unseen": [_field(kind) for kind in sorted(now.unseen)],
        "lost": done.lost,
        "lost_by_cause": dict(done.detail),
        "unclassified": now.unclassified,
    }


def latency_of(now: Snapshot) -> dict[str, Any]:
    """`latency`: a list by kind and side of the fork; see detail_objects."""
    return {
        "latency": [
            {
                "kind": _field(timing.kind),
                "side": timing.side,
                "faults": timing.faults,
                "ns": timing.ns,
                "buckets": {str(bucket): faults for bucket, faults in timing.buckets},
                "p50_below_ns": _below(timing.percentile(0.5)),
                "p99_below_ns": _below(timing.percentile(0.99)),
            }
            for timing in timings(now)
        ]
    }


def _process(process: Process, rates: Rates, place: Place) -> dict[str, Any]:
    seen = process.count(*COPIES) is not None
    faults = process.page_faults
    return {
        "pid": process.pid,
        "comm": process.comm,
        "parent": process.parent,
        "exited": process.exited,
        "nspid": place.nspid,
        "cgroup": place.cgroup,
        "faults": process.faults,
        **{_field(kind): process.count(kind) for kind in FaultKind},
        "copied_bytes": process.copied_bytes if seen else None,
        "copied_bytes_per_second": rates.get(process.identity, 0.0) if seen else None,
        "page_faults": dataclasses.asdict(faults) if faults else None,
        "rows": [_row(row) for row in process.rows],
    }


def _row(row: FaultRow) -> dict[str, Any]:
    return {
        "kind": _field(row.kind),
        "source": None if row.source is Source.UNKNOWN else row.source.name.lower(),
        "origin": row.origin.name.lower(),
        "actor": row.actor,
        "faults": row.faults,
        "bytes": row.bytes,
    }


def _below(bucket: int | None) -> int | None:
    return None if bucket is None else 2 << bucket


def _field(kind: FaultKind) -> str:
    return kind.name.lower()
