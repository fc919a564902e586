"""Metrics of what live forks may still copy, and of the memory that is left for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily

from cowtrace.analysis.forecast import Forecast
from cowtrace.analysis.forecaster import Forecaster
from cowtrace.memory_left import memory_left
from cowtrace.model import ForkGeneration, Snapshot
from cowtrace.model.memory_left import MemoryLeft
from cowtrace.prometheus.bounded_groups import Group

_MOST_CGROUPS = 64  # whose limits are read at one moment
_QUANTILES = ("0.1", "0.5", "0.9")

Owned = tuple[ForkGeneration, Group]


class ForecastMetrics:
    """Give it each snapshot, before ended forks are dropped."""

    def __init__(self, left: Callable[[str | None], MemoryLeft] = memory_left) -> None:
        """`left`: the memory that is left for a process of a cgroup."""
        self._forecaster, self._left_for = Forecaster(), left
        self._found: dict[int, Forecast] = {}
        self._left: dict[str, int | None] = {}  # by cgroup
        self._machine: int | None = None

    def add(self, now: Snapshot, live: Iterable[Owned]) -> None:
        """Forecast the live forks. `live`: each with its name and cgroup."""
        self._forecaster.note(now)
        self._found = self._forecaster.forecasts(now)
        self._machine = self._left_for(None).available_bytes
        groups = dict.fromkeys(group for fork, (_, group) in live if fork.number in self._found)
        self._left = {
            group: self._left_for(group).available_bytes for group in [*groups][:_MOST_CGROUPS]
        }

    def collect(
        self, live: Iterable[Owned], label: Callable[[Group], Group]
    ) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics of the last snapshot. `label`: of a name and cgroup."""
        to_come = GaugeMetricFamily(
            "cowtrace_forks_forecast_bytes",
            "Bytes that live forks will still copy, by part of the cases (quantile) with less.",
            labels=("comm", "cgroup", "quantile"),
        )
        left = GaugeMetricFamily(
            "cowtrace_forks_memory_left_bytes",
            "Memory left for these forks, of the machine and of their cgroup, without swap.",
            labels=("comm", "cgroup"),
        )
        sums: dict[Group, Counter[str]] = {}
        least: dict[Group, int] = {}
        for fork, owner in live:
            if (found := self._found.get(fork.number)) is None:
                continue
            group = label(owner)
            parts = (found.low_bytes, found.expected_bytes, found.high_bytes)
            more = dict(zip(_QUANTILES, (part - found.copied_bytes for part in parts), strict=True))
            sums.setdefault(group, Counter()).update(more)
            available = self._left.get(owner[1], self._machine)
            if available is not None:
                least[group] = min(available, least.get(group, available))
        for group, of_group in sums.items():
            for quantile in _QUANTILES:
                to_come.add_metric((*group, quantile), of_group[quantile])
        for group, available in least.items():
            left.add_metric(group, available)
        yield to_come
        yield left
