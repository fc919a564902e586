"""Turn snapshots into Prometheus metrics: faults, forks and completeness."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from cowtrace import __version__
from cowtrace.analysis.forks import WINDOW, Trend, trend
from cowtrace.model import COPIES, Account, Cause, FaultKind, ForkGeneration, Snapshot
from cowtrace.proc import Places
from cowtrace.prometheus.bounded_groups import BoundedGroups, Group
from cowtrace.prometheus.changes import Changes, Kind
from cowtrace.prometheus.forecasts import ForecastMetrics

TREND_NS = 15_000_000_000  # between two samples of a fork's copies, for its trend
_GROUP = ("comm", "cgroup")
_KIND = ("kind", "source", "origin")
_WRITING = (*COPIES, FaultKind.ZERO_FILLED)  # kinds that fill new pages

Family = CounterMetricFamily | GaugeMetricFamily


class Metrics:
    """Sums since the first snapshot. Give it each one: the tracer may then drop ended processes."""

    def __init__(self, places: Places, most: int) -> None:
        """Keep series of their own for at most `most` groups: names and cgroups."""
        self._changes = Changes(places)
        self._groups = BoundedGroups[Kind](most)
        # The last values: a plan that takes counts back must not make a counter fall.
        self._shown: dict[tuple[Group, Kind], tuple[int, int]] = {}
        self._unclassified = 0
        self._looks: deque[tuple[int, dict[int, int]]] = deque(maxlen=WINDOW + 1)
        self._now: Snapshot | None = None  # without processes: a storm of them takes much memory
        self._live: list[tuple[ForkGeneration, Group]] = []
        self._last_fork = 0
        self._timed_forks = self._fork_ns = 0
        self._forecasts = ForecastMetrics()

    def add(self, now: Snapshot) -> None:
        """Add the next snapshot of the trace."""
        changes = [*self._changes.of(now)]
        self._groups.add(changes, now.at_ns / 1e9)
        self._unclassified += sum(
            change.faults for change in changes if change.kind[0] is FaultKind.UNCLASSIFIED
        )
        if not self._looks or now.at_ns - self._looks[-1][0] >= TREND_NS:
            self._looks.append((now.at_ns, {g.number: g.copied_bytes for g in _live(now)}))
        owners = {process.pid: process for process in now.processes}
        self._live = []
        for each in _live(now):
            owner = owners.get(each.parent) or owners.get(each.child)
            self._live.append((each, self._changes.group(owner) if owner else ("", "")))
        for each in now.generations:  # by number
            if each.number > self._last_fork and each.fork_ns is not None:
                self._timed_forks += 1
                self._fork_ns += each.fork_ns
        self._last_fork = max((g.number for g in now.generations), default=self._last_fork)
        self._forecasts.add(now, self._live)
        self._now = replace(now, processes=(), details=(), generations=())

    def collect(self) -> Iterator[Family]:
        """Yield metrics to prometheus_client, which names this method."""
        yield from self._faults()
        now = self._now
        if now is not None:
            yield from self._forks()
            yield from self._forecasts.collect(self._live, self._groups.label)
            yield from self._completeness(now)
            if now.accounts:
                yield from _private_memory(now.accounts)
            yield _gauge("cowtrace_build_info", "Always 1: version, probe plan and kernel.",
                         ("version", "plan", "kernel"),
                         [((__version__, now.plan, now.kernel), 1)])  # fmt: skip

    def _faults(self) -> Iterator[Family]:
        shown = {}
        for group, kind, faults, copied in self._groups.items():
            had = self._shown.get((group, kind), (0, 0))
            shown[group, kind] = max(had[0], faults), max(had[1], copied)
        self._shown = shown
        labels = (*_GROUP, *_KIND)
        found = [((*group, *_words(kind)), kind, both) for (group, kind), both in shown.items()]
        yield _counter("cowtrace_faults", "Copy-on-write faults, by what became of them (kind).",
                       labels, [(words, faults) for words, _, (faults, _) in found])  # fmt: skip
        yield _counter(
            "cowtrace_bytes",
            "Bytes copied to new pages (kind copied, file-copied), or filled with zeroes.",
            labels, [(words, copied) for words, kind, (_, copied) in found if kind[0] in _WRITING],
        )  # fmt: skip

    def _forks(self) -> Iterator[Family]:
        sums: dict[str, Counter[Group]] = defaultdict(Counter)
        for each, owner in self._live:
            group = self._groups.label(owner)
            sums["live"][group] += 1
            looks = [
                (at, copied[each.number]) for at, copied in self._looks if each.number in copied
            ]
            grows = len(looks) > WINDOW and trend(each, looks) is Trend.GROWS
            sums["growing"][group] += grows
            sums["parent"][group] += each.parent_copied_bytes
            sums["child"][group] += each.child_copied_bytes
            sums["tables"][group] += each.page_table_bytes or 0
            sums["longest"][group] = max(sums["longest"][group], each.fork_ns or 0)
            sums["unknown"][group] += each.worst_case_bytes is None
            sums["shareable"][group] += each.shareable_bytes or 0
            sums["worst"][group] += each.worst_case_bytes or 0
        yield _gauge("cowtrace_forks_live", "Forks whose child lives and has not called exec.",
                     _GROUP, sums["live"].items())  # fmt: skip
        yield _gauge("cowtrace_forks_growing", "Of these, those whose copies do not level off.",
                     _GROUP, sums["growing"].items())  # fmt: skip
        both = [((*g, side), sums[side][g]) for side in ("parent", "child") for g in sums["live"]]
        yield _gauge("cowtrace_forks_copied_bytes",
                     "Bytes copied because of live forks, by each side.",
                     (*_GROUP, "side"), both)  # fmt: skip
        yield _gauge("cowtrace_forks_page_table_bytes",
                     "Page tables of live forks' children when they were made.",
                     _GROUP, [each for each in sums["tables"].items() if each[1]])  # fmt: skip
        longest = [(group, ns / 1e9) for group, ns in sums["longest"].items() if ns]
        yield _gauge("cowtrace_forks_longest_call_seconds",
                     "The longest call of fork of these: the parent waits so long.",
                     _GROUP, longest)  # fmt: skip
        yield _counter("cowtrace_timed_forks", "Calls of fork that were timed.",
                       (), [((), self._timed_forks)])  # fmt: skip
        yield _counter("cowtrace_fork_seconds", "Time in these calls: tracepoint plan, at least.",
                       (), [((), self._fork_ns / 1e9)])  # fmt: skip
        known = [group for group in sums["live"] if not sums["unknown"][group]]
        yield _gauge("cowtrace_forks_shareable_bytes",
                     "Memory that live forks could share when they were made: an upper bound.",
                     _GROUP, [(g, sums["shareable"][g]) for g in known])  # fmt: skip
        yield _gauge("cowtrace_forks_worst_case_bytes",
                     "Bytes that may still be copied because of live forks: an upper bound.",
                     _GROUP, [(g, sums["worst"][g]) for g in known])  # fmt: skip

    def _completeness(self, now: Snapshot) -> Iterator[Family]:
        done = now.completeness
        yield _counter("cowtrace_lost_faults", "Faults known to have been missed: 0 in a "
                       "complete trace.", (), [((), done.lost)])  # fmt: skip
        yield _counter("cowtrace_lost_details", "Faults or forks missing in details, as of "
                       "forks.", (), [((), done.lost_details)])  # fmt: skip
        yield _counter("cowtrace_unclassified_faults",
                       "Faults whose page-table entry was gone before it could be read.",
                       (), [((), self._unclassified)])  # fmt: skip
        causes = [((cause,), number) for cause, number in done.causes]
        yield _counter("cowtrace_losses", "All losses by cause; not each is a fault missed.",
                       ("cause",), causes)  # fmt: skip
        unseen = [((kind.label,), kind in now.unseen) for kind in FaultKind]
        yield _gauge("cowtrace_kind_unseen", "1: the probe plan cannot see faults of this kind.",
                     ("kind",), unseen)  # fmt: skip


def bpf_cost(run_ns: int, runs: int) -> Iterator[Family]:
    """Yield the kernel's own measure of the programs, kept while BPF statistics are on."""
    yield _counter("cowtrace_bpf_run_seconds", "Time in cowtrace's BPF programs, on all CPUs.",
                   (), [((), run_ns / 1e9)])  # fmt: skip
    yield _counter("cowtrace_bpf_runs", "Runs of cowtrace's BPF programs.", (), [((), runs)])


def own_state(at: float, took: float) -> Iterator[Family]:
    """Yield the age of the counts."""
    yield _gauge("cowtrace_snapshot_timestamp_seconds",
                 "When the counts on this page were read, since the epoch.",
                 (), [((), at)])  # fmt: skip
    yield _gauge("cowtrace_snapshot_duration_seconds", "How long reading them took.",
                 (), [((), took)])  # fmt: skip


def web_config(good: bool) -> Family:
    """Whether the web config is in use as it is in its file."""
    return _gauge("cowtrace_web_config_current",
                  "0: the web config is broken; that from before is in use.",
                  (), [((), good)])  # fmt: skip


def _private_memory(accounts: tuple[Account, ...]) -> Iterator[Family]:
    """Sums over the processes that were chosen."""
    living = [one for one in accounts if not one.ended]
    yield _gauge("cowtrace_private_bytes", "Private memory of living processes, by smaps.",
                 (), [((), sum(one.now for one in living))])  # fmt: skip
    causes = [((cause.value,), sum(one.bytes(cause) for one in accounts)) for cause in Cause]
    yield _counter(
        "cowtrace_private_changes_bytes",
        "Memory that became private, or ceased to be, by cause.",
        ("cause",),
        causes,
    )
    causes.append((("exited",), sum(one.now for one in accounts if one.ended)))
    unexplained = sum(one.unexplained for one in living)
    yield _gauge("cowtrace_private_unexplained_bytes",
                 "By how much private memory grew more than its causes and files explain.",
                 (), [((), unexplained)])  # fmt: skip
    yield _gauge("cowtrace_private_file_bytes",
                 "By how much private pages of files and of shared memory grew.",
                 (), [((), sum(one.files for one in living))])  # fmt: skip


def _live(now: Snapshot) -> list[ForkGeneration]:
    return [generation for generation in now.generations if generation.ended_ns is None]


def _words(kind: Kind) -> tuple[str, str, str]:
    """The words of the command line; an unknown source is empty."""
    source = kind[1].label or ""
    return kind[0].label, source, kind[2].name.lower()


def _gauge(name: str, words: str, labels: Iterable[str], values: Iterable[Any]) -> Family:
    return _filled(GaugeMetricFamily(name, words, labels=tuple(labels)), values)


def _counter(name: str, words: str, labels: Iterable[str], values: Iterable[Any]) -> Family:
    return _filled(CounterMetricFamily(name, words, labels=tuple(labels)), values)


def _filled(family: Family, values: Iterable[Any]) -> Family:
    for labels, value in values:
        family.add_metric(labels, value)
    return family
