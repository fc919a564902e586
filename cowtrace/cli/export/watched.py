"""Count for an exporter: the metrics of a tracer, as of the last snapshot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import click

from cowtrace import tracer
from cowtrace.analysis.private import Accounts
from cowtrace.cli.choice import Choice
from cowtrace.cli.chosen import Chosen
from cowtrace.errors import CowtraceError
from cowtrace.kernel.statistics import enabled
from cowtrace.model import Snapshot
from cowtrace.proc import Places

_CROWD = 2000  # processes of one reading; with more, the next one comes within a second


class Watched:
    """Takes snapshots. The encoder of Prometheus' format uses it as a registry."""

    def __init__(
        self, live: tracer.Tracer, choice: Choice, groups: int, chosen: Chosen | None
    ) -> None:
        """Begin to count. `chosen`: the processes whose private memory is read, if any is."""
        from prometheus_client import ProcessCollector

        from cowtrace.prometheus.metrics import Metrics

        self._places = Places()
        self._live, self._choice = live, choice
        self._metrics = Metrics(self._places, groups)
        self._chosen = chosen
        self._accounts = Accounts() if chosen else None
        if self._accounts:
            self._accounts.count(live.snapshot())
        self._own = ProcessCollector(registry=None)  # type: ignore[arg-type]
        self.began = self._took = 0.0  # of the last reading, since the epoch; seconds
        self.crowded = False

    def count(self) -> Snapshot:
        """Take a snapshot, and add it to the metrics."""
        self.began, began = time.time(), time.monotonic()
        if self._accounts and self._chosen:
            snapshot = self._accounts.snapshot(self._chosen.now, self._live.snapshot)
        else:
            snapshot = self._live.snapshot()
        chosen = self._choice.with_descendants(snapshot)
        self._metrics.add(chosen)
        self._live.forget_ended()
        self._took = time.monotonic() - began
        self.crowded = len(snapshot.processes) > _CROWD
        return chosen

    def cgroups(self, now: Snapshot, pids: Iterable[int]) -> dict[int, str]:
        """Of processes, by PID, those that are known."""
        found = self._places.of_pids(now, pids)
        return {pid: place.cgroup for pid, place in found.items() if place.cgroup is not None}

    def collect(self) -> Iterator[Any]:
        """Yield the metrics of the last snapshot."""
        from cowtrace.prometheus.metrics import bpf_cost, own_state

        yield from self._metrics.collect()
        yield from own_state(self.began, self._took)
        if cost := self._live.bpf_cost() if enabled() else None:
            yield from bpf_cost(*cost)
        yield from self._own.collect()


def require(module: str, package: str, hint: str) -> None:
    """Raises CowtraceError where an optional package is missing."""
    try:
        import_module(module)
    except ImportError:
        raise CowtraceError(
            f"the exporter needs {package}, which is not installed", hint=hint
        ) from None


groups_option = click.option(
    "--groups", type=click.IntRange(min=1, max=10_000), default=100, show_default=True,
    metavar="N", help="Keep metrics of at most N names and cgroups.",
)  # fmt: skip
private_option = click.option(
    "--private", is_flag=True,
    help="Also read where private memory came from: of the chosen processes.",
)  # fmt: skip
