"""Make JSON objects of forks, mappings, stacks, fault times, single faults and tracing costs.

The objects of `cowtrace forks`, `maps`, `stacks` and `latency` begin with `at_ns`,
`attached_ns` (CLOCK_MONOTONIC), `plan`, `kernel`, `page_bytes`, `unseen`, `lost`,
`lost_by_cause` and `unclassified`, as those of `cowtrace top` do: see objects.py. Then follows one
list, with these fields. null: unknown, or not seen by this plan. Sums are since attach.

- `generations`: `number`, `parent`, `parent_comm`, `child`, `child_comm`, `parent_nspid` and
  `child_nspid` (their pids where they run), `cgroup` (the child's), `at_ns`, `ended_ns`,
  `ended_by` (exec, exit), `shareable_bytes` (an upper bound), `parent_copied_bytes`,
  `child_copied_bytes`, `share_lost` (0 to 1), `copied_bytes_per_second`, `trend` (grows, slows,
  still, ended), `worst_case_bytes` (still to come, an upper bound)
- `mappings`: `pid`, `comm`, `exited`, `name`, `segment`, `start`, `mapped_bytes`, `huge` (thp,
  hugetlb), `faults`, `copied`, `zero_filled`, `reused`, `shared`, `copied_bytes`,
  `copied_bytes_per_second`
- `cgroups` (of `top --by cgroup`): `cgroup`, `processes` (with a fault), `faults`, `copied`,
  `zero_filled`, `reused`, `shared`, `copied_bytes`, `copied_bytes_per_second`
- `stacks`: `pid`, `kind`, `frames` (the innermost first: `function`, `module`, `address`),
  `faults`, `copied_bytes`; and beside the list `sampled` (true: the sums are estimates)
- `latency`: `kind`, `side` (parent, child, other), `faults`, `ns`, `buckets` (b: faults of at
  least 2**b and less than 2**(b+1) ns), `p50_below_ns`, `p99_below_ns`

A line of `cowtrace snoop` is one fault: `at_ns`, `pid`, `tid`, `comm`, `kind`, `source`,
`origin`, `address`, `bytes`, `mapping` (`name`, `segment`, `start`, `end`, `inode`; or null),
`ns`; or it says what was lost: `dropped` (faults since the line before).

Fields are added, never renamed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cowtrace.analysis.cgroups import CgroupRow
from cowtrace.analysis.cost import Cost
from cowtrace.analysis.forks import ForkRow
from cowtrace.analysis.mappings import MappingRow, label, segment
from cowtrace.machine.objects import latency_of
from cowtrace.model import UNKNOWN_PLACE, DetailRow, Event, PlaceOf, Source, unknown_place

__all__ = [
    "cgroups",
    "cost_object",
    "event",
    "event_object",
    "generations",
    "latency_of",
    "mappings",
    "stacks",
]


def generations(rows: Iterable[ForkRow], place_of: PlaceOf = unknown_place) -> dict[str, Any]:
    """By number. `place_of`: where a process runs."""
    ordered = sorted(rows, key=lambda row: row.generation.number)
    return {"generations": [_generation(row, place_of) for row in ordered]}


def cgroups(rows: Iterable[CgroupRow]) -> dict[str, Any]:
    """In their order."""
    return {"cgroups": [_cgroup(row) for row in rows]}


def mappings(rows: Iterable[MappingRow]) -> dict[str, Any]:
    """In their order."""
    return {"mappings": [_mapping(row) for row in rows]}


def stacks(rows: Iterable[DetailRow], sampled: bool) -> dict[str, Any]:
    """One object for each row that has a stack or could have one."""
    return {"sampled": sampled, "stacks": [_stack(row) for row in rows]}


def event(one: Event) -> str:
    """One line, without its end."""
    return json.dumps(event_object(one))


def event_object(one: Event) -> dict[str, Any]:
    """One fault."""
    found = one.mapping
    return {
        "at_ns": one.at_ns,
        "pid": one.pid,
        "tid": one.tid,
        "comm": one.comm,
        "kind": one.kind.name.lower(),
        "source": None if one.source is Source.UNKNOWN else one.source.name.lower(),
        "origin": one.origin.name.lower(),
        "address": one.address,
        "bytes": one.bytes,
        "mapping": found
        and {
            "name": label(found),
            "segment": segment(found),
            "start": found.start,
            "end": found.end,
            "inode": found.inode or None,
        },
        "ns": one.ns,
    }


def cost_object(cost: Cost) -> dict[str, Any]:
    """What tracing cost in one way; `cowtrace doctor --cost` writes it."""
    return {
        "used_by": cost.used_by,
        "plan": cost.plan,
        "details": list(cost.details),
        "copies": cost.copies,
        "traced": cost.traced,
        "faults": cost.faults,
        "bpf_ns": cost.bpf_ns,
        "bpf_runs": cost.bpf_runs,
        "ns_per_fault": cost.ns_per_fault,
        "ns_per_copy_without": cost.ns_per_copy_without,
        "ns_per_copy_with": cost.ns_per_copy_with,
        "cpu_share": cost.cpu_share,
    }


def _cgroup(row: CgroupRow) -> dict[str, Any]:
    sums = row.sums
    return {
        "cgroup": row.cgroup,
        "processes": row.processes,
        "faults": sums.faults,
        "copied": sums.copied,
        "zero_filled": sums.zero,
        "reused": sums.reused,
        "shared": sums.shared,
        "copied_bytes": sums.bytes,
        "copied_bytes_per_second": sums.rate,
    }


def _generation(row: ForkRow, place_of: PlaceOf) -> dict[str, Any]:
    generation = row.generation
    parent = place_of(row.parent) if row.parent else UNKNOWN_PLACE
    child = place_of(row.child) if row.child else UNKNOWN_PLACE
    return {
        "number": generation.number,
        "parent": generation.parent,
        "parent_comm": row.parent and row.parent.comm,
        "child": generation.child,
        "child_comm": row.child and row.child.comm,
        "parent_nspid": parent.nspid,
        "child_nspid": child.nspid,
        "cgroup": child.cgroup,
        "at_ns": generation.at_ns,
        "ended_ns": generation.ended_ns,
        "ended_by": generation.ended_by and generation.ended_by.value,
        "shareable_bytes": generation.shareable_bytes,
        "parent_copied_bytes": generation.parent_copied_bytes,
        "child_copied_bytes": generation.child_copied_bytes,
        "share_lost": generation.share_lost,
        "copied_bytes_per_second": row.rate,
        "trend": row.trend and row.trend.value,
        "worst_case_bytes": generation.worst_case_bytes,
    }


def _mapping(row: MappingRow) -> dict[str, Any]:
    return {
        "pid": row.pid,
        "comm": row.comm,
        "exited": row.exited,
        "name": row.label,
        "segment": row.segment or None,
        "start": row.start,
        "mapped_bytes": row.mapped_bytes,
        "huge": list(row.huge),
        "faults": row.faults,
        "copied": row.copied,
        "zero_filled": row.zero,
        "reused": row.reused,
        "shared": row.shared,
        "copied_bytes": row.bytes,
        "copied_bytes_per_second": row.rate,
    }


def _stack(row: DetailRow) -> dict[str, Any]:
    frames = (*(row.kernel_stack or ()), *(row.user_stack or ()))
    return {
        "pid": row.pid,
        "kind": row.kind.name.lower(),
        "frames": [
            {"function": frame.symbol, "module": frame.module, "address": frame.address}
            for frame in frames
        ],
        "faults": row.faults,
        "copied_bytes": row.bytes,
    }
