"""Let copies fail because the memory cgroup of the child is full."""

from __future__ import annotations

import signal

from cowtrace.model import FaultKind, Origin, Source
from cowtrace.workloads import settings
from cowtrace.workloads.outcome import ExpectedRow, child, parent
from cowtrace.workloads.region import PAGE_BYTES
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, Writer

_LIMIT_PAGES = 512  # more than what the child's interpreter itself writes
_PAGES = 2048


@workload(
    lambda pages: (
        parent(),
        child(
            # How many are copied before the limit, and whether the last fault is counted as failed
            # before the kill arrives, varies.
            ExpectedRow(FaultKind.COPIED, Source.ANON, Origin.USER),
            ExpectedRow(FaultKind.FAILED, Source.UNKNOWN, Origin.USER),
            zero_filled=0,
        ),
    ),
    least=_PAGES,
    group="failed copy",
    claim="a child is killed when its copies exceed its memory limit",
)
def memory_limit(me: Writer) -> None:
    """the child may hold fewer pages than it writes (memory cgroup): a copy fails"""
    with settings.memory_cgroup() as (folder, limit):
        me.populate(BEFORE)
        settings.write(str(folder / limit), str(_LIMIT_PAGES * PAGE_BYTES))
        killed_by = me.victim_writes(
            before=lambda pid: settings.write(str(folder / "cgroup.procs"), str(pid))
        )
        me.note("data", "child: killed by signal", int(signal.SIGKILL), killed_by)
        events = "memory.events" if limit == "memory.max" else "memory.oom_control"
        kills = dict(line.split() for line in (folder / events).read_text().splitlines())
        me.note(f"cgroup {events}", "kills for want of memory", "1", kills.get("oom_kill"))
        me.expect(BEFORE)
