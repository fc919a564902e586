"""The metrics of a tracer, published by each look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cowtrace import tracer
from cowtrace.analysis.private import Accounts
from cowtrace.cli.choice import Choice
from cowtrace.cli.chosen import Chosen
from cowtrace.kernel.statistics import enabled

if TYPE_CHECKING:
    from cowtrace.prometheus.metrics import Metrics
    from cowtrace.prometheus.web_process import Pages

_CROWD = 2000  # processes of one reading; with more, the next one comes within a second


class Watched:
    """The metrics of a tracer, published by each look. The encoder uses it as a registry."""

    def __init__(
        self,
        live: tracer.Tracer,
        metrics: Metrics,
        choice: Choice,
        pages: Pages,
        accounts: Accounts | None,
        chosen: Chosen | None,
    ) -> None:
        from prometheus_client import ProcessCollector

        self._live, self._metrics, self._choice, self._pages = live, metrics, choice, pages
        self._accounts, self._chosen = accounts, chosen
        self._own = ProcessCollector(registry=None)  # type: ignore[arg-type]
        self._began = self._took = 0.0
        self._crowded = False

    def look(self) -> None:
        """Take a snapshot; publish a page of it."""
        from prometheus_client import generate_latest

        self._began, began = time.time(), time.monotonic()
        if self._accounts and self._chosen:
            snapshot = self._accounts.snapshot(self._chosen.now, self._live.snapshot)
        else:
            snapshot = self._live.snapshot()
        self._metrics.add(self._choice.with_descendants(snapshot))
        self._live.forget_ended()
        self._took = time.monotonic() - began
        self._pages.publish(generate_latest(self))  # type: ignore[arg-type]
        self._crowded = len(snapshot.processes) > _CROWD

    def look_if_crowded(self) -> None:
        """Look between two intervals, so that a storm of processes does not pile up."""
        if self._crowded:
            self.look()

    def collect(self) -> Iterator[Any]:
        """Yield the metrics of the last snapshot."""
        from cowtrace.prometheus.metrics import bpf_cost, own_state

        yield from self._metrics.collect()
        yield from own_state(self._began, self._took)
        if cost := self._live.bpf_cost() if enabled() else None:
            yield from bpf_cost(*cost)
        yield from self._own.collect()
