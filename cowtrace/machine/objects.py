"""Make the JSON object of a Snapshot, and write it on one line. schema.json describes its fields.

Fields are added, never renamed.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TextIO

from cowtrace.analysis.latency import timings
from cowtrace.analysis.processes import Rates, per_second
from cowtrace.model import (
    COPIES,
    Event,
    FaultKind,
    FaultRow,
    Place,
    PlaceOf,
    Process,
    Snapshot,
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
    whole = as_object(now, before, place_of) | (latency_of(now) if latency else {})
    stream.write(json.dumps(whole) + "\n")
    stream.flush()


def as_object(
    now: Snapshot, before: Snapshot | None = None, place_of: PlaceOf = unknown_place
) -> dict[str, Any]:
    """The object of one line. `place_of`: where a process runs."""
    rates = per_second(now, before)
    return head(now) | {"processes": [_process(p, rates, place_of(p)) for p in now.processes]}


def head(now: Snapshot) -> dict[str, Any]:
    """The fields that describe the whole trace."""
    done, outside = now.completeness, now.in_system_calls
    return {
        **fields(now, "at_ns", "attached_ns", "plan", "kernel", "page_bytes"),
        "unseen": [_field(kind) for kind in sorted(now.unseen)],
        "lost": done.lost,
        "lost_details": done.lost_details,
        "lost_by_cause": dict(done.causes),
        "in_system_calls_at_most": outside
        and dict(zip(("copied", "zero_filled"), outside, strict=True)),
        "unclassified": now.unclassified,
    }


def latency_of(now: Snapshot) -> dict[str, Any]:
    """`latency`: a list by kind and side of the fork."""
    return {
        "latency": [
            {
                "kind": _field(timing.kind),
                **fields(timing, "side", "faults", "ns", "tlb_flush_ns"),
                "buckets": {str(bucket): faults for bucket, faults in timing.buckets},
                "p50_below_ns": timing.below_ns(0.5),
                "p99_below_ns": timing.below_ns(0.99),
            }
            for timing in timings(now)
        ]
    }


def _process(process: Process, rates: Rates, place: Place) -> dict[str, Any]:
    seen = process.count(*COPIES) is not None
    faults = process.page_faults
    return {
        **fields(process, "pid", "comm", "parent", "exited"),
        **fields(place, "nspid", "cgroup"),
        "faults": process.faults,
        **{_field(kind): process.count(kind) for kind in FaultKind},
        "copied_bytes": process.copied_bytes if seen else None,
        "copied_bytes_per_second": rates.get(process.identity, 0.0) if seen else None,
        "page_faults": dataclasses.asdict(faults) if faults else None,
        "rows": [_row(row) for row in process.rows],
    }


def _row(row: FaultRow) -> dict[str, Any]:
    return classification(row) | fields(row, "actor", "faults", "bytes")


def fields(of: object, *names: str) -> dict[str, Any]:
    """Attributes that have the same name in JSON."""
    return {name: getattr(of, name) for name in names}


def classification(of: FaultRow | Event) -> dict[str, Any]:
    """The kind, source and origin of faults."""
    return {
        "kind": _field(of.kind),
        "source": of.source.label,
        "origin": of.origin.name.lower(),
    }


def _field(kind: FaultKind) -> str:
    return kind.name.lower()
