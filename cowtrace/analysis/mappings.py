"""Sum faults by mapping, as sorted rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from cowtrace.analysis.processes import COUNTED
from cowtrace.model import COPIES, DetailRow, FaultKind, Mapping, MappingType, Snapshot, Source

_FLAGS = ((1, "r"), (2, "w"), (4, "x"))  # VM_READ, VM_WRITE, VM_EXEC
_SHARED = 8  # VM_SHARED
_HUGE = {Source.THP: "thp", Source.HUGETLB: "hugetlb"}

_Key = tuple[int, str | None, str, int | None]  # pid, label, segment, start


@dataclass(frozen=True, slots=True)
class MappingRow:
    """Faults of one process in its mappings of one name and segment. None: unseen by the plan."""

    pid: int
    comm: str  # hostile, as is the label
    exited: bool
    label: str | None  # `[heap]`, `[anon:name]`, a path; None: the mapping is not known
    segment: str  # as /proc/PID/maps shows it: `rw-p`
    start: int | None  # the lowest address
    mappings: int  # with a fault
    mapped_bytes: int  # their sizes, summed
    huge: tuple[str, ...]  # `thp`, `hugetlb`: huge pages of these kinds had faults
    faults: int
    copied: int | None
    zero: int | None
    reused: int | None
    shared: int | None
    bytes: int | None
    rate: float | None  # bytes copied per second
    by_eighth: tuple[int, ...] | None  # copies by the eighth of the page that was written


@dataclass(slots=True)
class _Sum:
    kinds: Counter[FaultKind] = field(default_factory=Counter)
    bytes: int = 0
    sizes: dict[int, int] = field(default_factory=dict)  # by start
    huge: set[str] = field(default_factory=set)
    eighths: Counter[int] = field(default_factory=Counter)


def label(mapping: Mapping) -> str:
    """The name of a mapping, as in /proc/PID/maps. Hostile."""
    if mapping.type is MappingType.HEAP:
        return "[heap]"
    if mapping.type is MappingType.STACK:
        return "[stack]"
    if mapping.type is MappingType.ANON:
        return f"[anon:{mapping.name}]" if mapping.name else "[anon]"
    return mapping.name or f"[{mapping.type.name.lower()}]"


def segment(mapping: Mapping) -> str:
    """The rights of a mapping, and whether it is shared or private: `rw-p`."""
    rights = "".join(letter if mapping.flags & bit else "-" for bit, letter in _FLAGS)
    return rights + ("s" if mapping.flags & _SHARED else "p")


def mapping_rows(
    now: Snapshot, before: Snapshot | None, *, addresses: bool = False, sort: str = "rate"
) -> tuple[MappingRow, ...]:
    """One row for each name and segment of a process, with `addresses` for each mapping.

    Mappings of exited processes are included. A rate begins at `before`, or else at attach.
    """
    processes = {process.pid: process for process in now.processes}
    sums = _sums(now.details, addresses)
    earlier = _sums(before.details, addresses) if before else {}
    seconds = (now.at_ns - (before.at_ns if before else now.attached_ns)) / 1e9
    found = []
    for key, counted in sums.items():
        process = processes.get(key[0])
        unseen = process.unseen if process else now.unseen
        been = earlier[key].bytes if key in earlier else 0
        if not key[0]:  # the sums of ended processes grow by what was counted before
            been = counted.bytes
        seen = not unseen.issuperset(COPIES)
        rate = max(0, counted.bytes - been) / seconds if seconds > 0 else None
        found.append(
            MappingRow(
                pid=key[0],
                comm=process.comm if process else "?",
                exited=process.exited if process else True,
                label=key[1],
                segment=key[2],
                start=min(counted.sizes, default=None),
                mappings=len(counted.sizes),
                mapped_bytes=sum(counted.sizes.values()),
                huge=tuple(sorted(counted.huge)),
                faults=counted.kinds.total(),
                **{
                    name: None if unseen.issuperset(kinds) else sum(counted.kinds[k] for k in kinds)
                    for name, kinds in COUNTED.items()
                },
                bytes=counted.bytes if seen else None,
                rate=rate if seen else None,
                by_eighth=tuple(counted.eighths[n] for n in range(8)) if counted.eighths else None,
            )
        )

    def order(row: MappingRow) -> tuple[object, ...]:
        """Numbers downwards, pid and comm upwards; equal ones by bytes, then faults."""
        value = getattr(row, sort)
        first = value if sort in ("pid", "comm") else -(value or 0)
        return (first, -(row.bytes or 0), -row.faults, row.pid, row.label or "", row.start or 0)

    return tuple(sorted(found, key=order))


def _sums(details: Iterable[DetailRow], addresses: bool) -> dict[_Key, _Sum]:
    sums: dict[_Key, _Sum] = defaultdict(_Sum)
    for row in details:
        if not row.faults:
            continue
        key: _Key = (row.pid, None, "", None)
        if mapping := row.mapping:
            start = mapping.start if addresses else None
            key = (row.pid, label(mapping), segment(mapping), start)
        counted = sums[key]
        counted.kinds[row.kind] += row.faults
        if row.kind in COPIES:
            counted.bytes += row.bytes
            if row.eighth is not None:
                counted.eighths[row.eighth] += row.faults
        if mapping:
            counted.sizes[mapping.start] = mapping.end - mapping.start
        if huge := _HUGE.get(row.source):
            counted.huge.add(huge)
    return sums
