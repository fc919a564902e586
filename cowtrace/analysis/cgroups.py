"""Sum processes by the cgroup that they run in: one sorted row for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from cowtrace.analysis.processes import Row, per_second, summed
from cowtrace.model import Process, Snapshot


@dataclass(frozen=True, slots=True)
class CgroupRow:
    """Sums over the processes of one cgroup, ended ones included."""

    cgroup: str | None  # hostile; None: not known
    processes: int  # with any copy-on-write fault
    sums: Row


def cgroup_rows(
    now: Snapshot,
    before: Snapshot | None,
    cgroup_of: Callable[[Process], str | None],
    *,
    sort: str = "rate",
) -> tuple[CgroupRow, ...]:
    """One row for each cgroup with a fault, sorted as processes are; by path for pid and comm.

    All faults of a process that was moved are attributed to its present cgroup.
    """
    members: dict[str | None, list[Process]] = defaultdict(list)
    for process in now.processes:
        if process.faults:
            members[cgroup_of(process)].append(process)
    rates = per_second(now, before)
    found = [CgroupRow(path, len(each), summed(each, rates, "")) for path, each in members.items()]

    def order(row: CgroupRow) -> tuple[object, ...]:
        name, sums = row.cgroup or "", row.sums
        if sort in ("pid", "comm"):
            return (name,)
        return (-(getattr(sums, sort) or 0), -(sums.bytes or 0), -sums.faults, name)

    return tuple(sorted(found, key=order))
