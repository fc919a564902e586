"""`cowtrace latency`: show how long copy-on-write faults take, per kind and side of a fork."""

from __future__ import annotations

import click

from cowtrace.analysis.stalls import stalls
from cowtrace.cli.attach import LATENCY, attach
from cowtrace.cli.choice import Choice, filter_options
from cowtrace.cli.live import Refresh, watch
from cowtrace.cli.options import Output, live_options
from cowtrace.machine import detail_objects
from cowtrace.machine.objects import latency_of
from cowtrace.model import Snapshot


@click.command(
    epilog="\b\nExample: what the snapshots of this server cost its requests, for 10 s\n"
    "  sudo cowtrace latency -p $(pidof redis-server) 10 1"
)
@filter_options
@live_options
def latency(choice: Choice, plan: str, output: Output) -> None:
    """Show how long faults take, by kind and side of the fork, live.

    Every INTERVAL seconds (1 by default), COUNT times; by default until interrupted, or until
    the processes of -p have ended (without --follow). Sums since the start. Each fault is timed
    in the kernel, from handle_mm_fault() on, and counted exactly in the power of two that it
    falls in; percentiles are known to that power.

    A fault in a child is attributed to the fork that created it; one in a parent to its latest
    fork whose child lives. Faults of other processes have no side.

    FLUSH, with the fentry plan on x86-64, is the share of that time spent flushing the TLB: on
    this CPU, and waiting for each CPU that runs another thread of the process.

    Below, each process that forked has its stall budget: the time in the calls of fork, in its
    copies and in its re-marks that are attributed to these forks; their sum, and that as a share
    of the time since the start. 1ST S is the stall from the call to one second after it, at the
    median and the 99th percentile of its forks. The time of a flush of the TLB is in the time of
    what made it.

    The tracepoint plan does not see the end of a fault, so it cannot time faults.
    """

    def refresh(now: Snapshot, _: Snapshot | None) -> Refresh:
        from cowtrace.terminal.latency import view

        chosen = choice.of(now)
        return Refresh(
            chosen,
            lambda: view(chosen),
            lambda: latency_of(chosen) | detail_objects.stalls(stalls(chosen)),
        )

    live = attach(plan, details=LATENCY, only=choice.in_tracer())
    watch(live, refresh, "latency", output, pids=choice.alone)
