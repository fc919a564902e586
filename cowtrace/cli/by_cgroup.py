"""`cowtrace top --by cgroup`: which container, or which service, copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowtrace.analysis.cgroups import cgroup_rows
from cowtrace.cli.attach import attach
from cowtrace.cli.filters import Choice
from cowtrace.cli.live import Refresh
from cowtrace.cli.live import watch as watch_live
from cowtrace.machine import detail_objects
from cowtrace.model import Snapshot
from cowtrace.proc import Places

if TYPE_CHECKING:
    from cowtrace.terminal.view import View


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

    def refresh(now: Snapshot, before: Snapshot | None) -> Refresh:
        places.look(now)
        kept = choice.of(now)
        rows = cgroup_rows(kept, before, lambda p: places.of(p).cgroup, sort=sort)

        def drawn() -> View:
            from cowtrace.terminal.cgroups import view

            return view(kept, rows, limit)

        return Refresh(kept, drawn, lambda: detail_objects.cgroups(rows))

    watch_live(
        attach(plan, only=choice.in_kernel()), refresh, rows="cgroups",
        interval=interval, count=count, as_json=as_json, as_csv=as_csv,
    )  # fmt: skip
