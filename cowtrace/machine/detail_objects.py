"""Make JSON objects of forks, mappings, stacks, cgroups, single faults and costs.

schema.json describes the fields. They are added, never renamed. `objects.head` has those before
each list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from cowtrace.analysis.cgroups import CgroupRow
from cowtrace.analysis.cost import Cost
from cowtrace.analysis.forks import ForkRow
from cowtrace.analysis.mappings import MappingRow, label, segment
from cowtrace.analysis.objects import Remedy
from cowtrace.analysis.processes import Row
from cowtrace.analysis.stalls import Stall, percentile
from cowtrace.machine.objects import classification, fields
from cowtrace.model import (
    UNKNOWN_PLACE,
    DetailRow,
    Event,
    FaultKind,
    PlaceOf,
    Written,
    unknown_place,
)

_COST = (
    *("used_by", "plan", "details", "copies", "traced", "faults", "bpf_ns", "bpf_runs"),
    *("ns_per_fault", "ns_per_copy_without", "ns_per_copy_with", "cpu_share"),
)


def generations(rows: Iterable[ForkRow], place_of: PlaceOf = unknown_place) -> dict[str, Any]:
    """Forks by number. `place_of`: where a process runs."""
    ordered = sorted(rows, key=lambda row: row.generation.number)
    return {"generations": [_generation(row, place_of) for row in ordered]}


def stalls(found: Iterable[Stall]) -> dict[str, Any]:
    """Processes that forked, in the order of their stalls."""
    return {
        "stalls": [
            {
                **fields(each.process, "pid", "comm"),
                **fields(each, "forks", "fork_ns", "copied_ns", "reused_ns", "stall_ns", "share"),
                "first_second_p50_ns": percentile(each.first_seconds, 0.5),
                "first_second_p99_ns": percentile(each.first_seconds, 0.99),
            }
            for each in found
        ]
    }


def cgroups(rows: Iterable[CgroupRow]) -> dict[str, Any]:
    """Cgroups in the order of their rows."""
    found = [{"cgroup": r.cgroup, "processes": r.processes, **_counts(r.sums)} for r in rows]
    return {"cgroups": found}


def mappings(rows: Iterable[MappingRow]) -> dict[str, Any]:
    """Mappings in the order of their rows."""
    return {"mappings": [_mapping(row) for row in rows]}


def stacks(rows: Iterable[DetailRow], sampled: bool) -> dict[str, Any]:
    """Stacks in the order of their rows; `sampled`: their sums are estimates."""
    return {"sampled": sampled, "stacks": [_stack(row) for row in rows]}


def written(rows: Iterable[DetailRow], changes: Iterable[Remedy]) -> dict[str, Any]:
    """What copies changed, the largest first, by process."""
    faults: Counter[tuple[int, FaultKind, Written]] = Counter()
    copied: Counter[tuple[int, FaultKind, Written]] = Counter()
    for row in rows:
        if row.written:
            key = row.pid, row.kind, row.written
            faults[key] += row.faults
            copied[key] += row.bytes
    return {
        "sampled": True,
        "objects": [
            {
                "pid": pid,
                "kind": kind.name.lower(),
                "cause": what.cause.value,
                "type": what.type,
                "phase": what.phase and what.phase.value,
                "faults": faults[pid, kind, what],
                "copied_bytes": bytes_,
            }
            for (pid, kind, what), bytes_ in copied.most_common()
        ],
        "avoidable": [
            {"change": each.change, "of": each.of, "at_most_bytes": each.bytes} for each in changes
        ],
    }


def event_object(one: Event) -> dict[str, Any]:
    """The object of one fault."""
    found = one.mapping
    return {
        **fields(one, "at_ns", "pid", "tid", "comm"),
        **classification(one),
        "address": one.address,
        "address_exact": one.is_exact,
        "bytes": one.bytes,
        "mapping": found
        and {
            "name": label(found),
            "segment": segment(found),
            **fields(found, "start", "end"),
            "inode": found.inode or None,
        },
        "ns": one.ns,
    }


def cost_object(cost: Cost) -> dict[str, Any]:
    """The object of one measured way to trace, for `cowtrace doctor --cost`."""
    return fields(cost, *_COST) | {"details": list(cost.details)}


def _counts(row: Row | MappingRow) -> dict[str, Any]:
    return {
        "faults": row.faults,
        "copied": row.copied,
        "zero_filled": row.zero,
        "reused": row.reused,
        "shared": row.shared,
        "copied_bytes": row.bytes,
        "copied_bytes_per_second": row.rate,
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
        **fields(generation, "at_ns", "ended_ns"),
        "ended_by": generation.ended_by and generation.ended_by.value,
        **fields(generation, "shareable_bytes", "parent_copied_bytes", "child_copied_bytes"),
        "share_lost": generation.share_lost,
        "copied_bytes_per_second": row.rate,
        "trend": row.trend and row.trend.value,
        "worst_case_bytes": generation.worst_case_bytes,
        **fields(generation, "fork_ns", "lock_ns", "page_table_bytes", "fork_copied_bytes"),
    }


def _mapping(row: MappingRow) -> dict[str, Any]:
    return {
        **fields(row, "pid", "comm", "exited"),
        "name": row.label,
        "segment": row.segment or None,
        **fields(row, "start", "mapped_bytes"),
        "huge": list(row.huge),
        **_counts(row),
        "copied_by_eighth": row.by_eighth and list(row.by_eighth),
    }


def _stack(row: DetailRow) -> dict[str, Any]:
    frames = (*(row.kernel_stack or ()), *(row.user_stack or ()))
    return {
        "pid": row.pid,
        "kind": row.kind.name.lower(),
        "frames": [
            {"function": f.symbol, **fields(f, "module", "address", "line")} for f in frames
        ],
        "faults": row.faults,
        "copied_bytes": row.bytes,
    }
