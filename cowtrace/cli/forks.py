"""`cowtrace forks`: show how much memory each fork shared, and how much was copied since."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import click

from cowtrace.analysis.forks import WINDOW, ForkRow, fork_rows
from cowtrace.cli import cgroups
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, process_options
from cowtrace.cli.forecasts import Forecasts
from cowtrace.cli.live import Refresh, watch
from cowtrace.cli.options import Output, live_options, rows_option, usage_error
from cowtrace.cli.progress import hook, progress_option
from cowtrace.machine import detail_objects, forecast_objects
from cowtrace.model import ForkGeneration, Snapshot
from cowtrace.proc import Places
from cowtrace.tracer.filter import Filter


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace forks -p $(pidof redis-server)\n"
    "  sudo cowtrace forks --forecast --progress redis -p $(pidof redis-server)"
)
@click.option("--forecast", "forecasting", is_flag=True,
              help="Forecast what each fork will copy, and whether that fits.")  # fmt: skip
@progress_option
@process_options
@rows_option("Show at most N forks; --json has all.")
@live_options
def forks(
    choice: Choice, limit: int, plan: str, output: Output, forecasting: bool, progress: str | None
) -> None:
    """Show what each fork shared, how much is copied, and what may come.

    Every INTERVAL seconds (1 by default), COUNT times (until interrupted by default). Each fork
    since the start that created an address space (no thread, no vfork) is a line under its
    parent; forks whose child lives come first. -p shows the forks that a process made, and the
    one that created it.

    A copy in the child is attributed to the fork that created it; one in the parent to its
    latest fork whose child lives. exit or exec of the child ends the generation.

    \b
    FORK     how long the call took, until the child was complete: the parent
             waits (tracepoint plan: a lower bound, from the copy of memory on)
    TABLES   page tables that it made for the child, without their top level
    SHARED   memory that parent and child shared at the fork: an upper bound
             (anonymous memory of the child then, swapped-out pages left out)
    COPIED   since then because of this fork: exact, within the plan's limits
    LOST     COPIED as a share of SHARED; includes pages of private files
    /S       bytes copied per second in the last interval
    TREND    slows: levelling off, the last three intervals had less than half
             of the mean rate since the fork; grows; still: no copy in these
    TO COME  may still be copied: an upper bound, each page is copied only once

    With --forecast, instead:

    \b
    TOTAL      copied when the child ends: EXPECTED, and 8 of 10 times between
               LOW and HIGH; that is the peak, for it is freed then
    ENDS IN    by the child's progress (--progress) and by earlier forks of the
               same parent; -: unknown, and TOTAL is as if it never ended
    LEVELS     until 95 % of EXPECTED is copied
    FITS       with the other live forks shown, HIGH into the memory that is
               left, of the machine and of the cgroup: yes; slow: above
               memory.high; swap: with swap alone; no: the kernel kills. no?:
               HIGH does not fit, EXPECTED does
    """
    if progress and not forecasting:
        raise usage_error("--progress is for --forecast", "add --forecast")
    hooked = hook(progress, choice, output.interval)
    forecasts = Forecasts(choice, hooked) if forecasting else None
    found = ChosenForks(choice)
    places = found.places

    def refresh(now: Snapshot, before: Snapshot | None) -> Refresh:
        from cowtrace.terminal.forecast import view as forecast_view
        from cowtrace.terminal.forks import view

        chosen, rows = found.look(now, before)
        shown = [row.generation for row in rows[:limit]]
        pids = [pid for fork in shown for pid in (fork.parent, fork.child)]
        if forecasts:
            outlooks = forecasts.of(chosen, rows, places.of)
            parents = dict.fromkeys(fork.parent for fork in shown)
            earlier = {pid: forecasts.earlier_totals(pid) for pid in parents}
            return Refresh(
                chosen,
                lambda: forecast_view(
                    chosen, rows, outlooks, earlier, limit, places.of_pids(now, pids)
                ),
                lambda: forecast_objects.generations(rows, outlooks, places.of),
            )
        return Refresh(
            chosen,
            lambda: view(chosen, rows, limit, places.of_pids(now, pids)),
            lambda: detail_objects.generations(rows, places.of),
        )

    # No PID filter in the kernel: both sides of a fork count, and -p may name either.
    live = attach(plan, details=frozenset({"generation"}), only=Filter(cgroup=choice.cgroup))
    watch(live, refresh, "generations", output)


class ChosenForks:
    """The chosen forks of each snapshot."""

    def __init__(self, choice: Choice) -> None:
        self.places = Places()
        self._choice = choice
        self._history: deque[Snapshot] = deque(maxlen=WINDOW + 1)
        self._members: set[int] = set()  # every pid seen in the cgroup so far

    def look(self, now: Snapshot, before: Snapshot | None) -> tuple[Snapshot, tuple[ForkRow, ...]]:
        """The next snapshot, with the chosen forks alone; their rows, with rates since `before`."""
        if self._choice.cgroup:
            self._members |= cgroups.processes(self._choice.cgroup)
        chosen = of_forks(now, self._choice, self._members)
        self._history.append(chosen)
        self.places.look(now)
        return chosen, fork_rows(self._history, before)


def of_forks(now: Snapshot, choice: Choice, members: set[int]) -> Snapshot:
    """Keep only the forks whose parent or child is chosen."""
    pids = set(choice.pids)
    if choice.follow:
        pids = now.families(pids)
    wanted = [pids] if pids else []
    if choice.comm:
        wanted.append(choice.called(now))

    def is_chosen(generation: ForkGeneration) -> bool:
        sides = {generation.parent, generation.child}
        in_cgroup = not choice.cgroup or generation.copied_bytes > 0 or bool(sides & members)
        return in_cgroup and all(sides & some for some in wanted)

    return replace(now, generations=tuple(filter(is_chosen, now.generations)))
