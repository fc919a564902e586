"""`cowtrace top --by cgroup`: which container, or which service, copies."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from cowtrace.analysis.cgroups import cgroup_rows
from cowtrace.cli.attach import attach
from cowtrace.cli.filters import Choice
from cowtrace.cli.screen import screen
from cowtrace.cli.watching import ending_held, snapshots
from cowtrace.machine import detail_objects as detaillines
from cowtrace.places import Places


def watch(
    choice: Choice,
    interval: float,
    count: int | None,
    *,
    plan: str,
    as_json: bool,
    as_csv: bool,
    limit: int,
    sort: str,
) -> None:
    """Attach, then show the cgroups at each interval."""
    places = Places()
    with ExitStack() as stack:
        live = stack.enter_context(attach(plan, only=choice.in_kernel()))
        signals = ending_held(stack)
        tell = detaillines.writer(sys.stdout, "cgroups", as_csv=as_csv)
        show = None if as_json or as_csv else stack.enter_context(screen())
        for now, before in snapshots(live, signals, interval, count, show):
            places.look(now)
            kept = choice.of(now)
            rows = cgroup_rows(kept, before, lambda p: places.of(p).cgroup, sort=sort)
            if show:
                from cowtrace.terminal.cgroups import block

                show.show(block(kept, rows, limit))
            else:
                tell(kept, detaillines.cgroups(rows))
