"""Snapshots in, Prometheus metrics out: exact, monotonic, bounded, safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies
from snapshots import PAGE, fork, process, row, snapshot

pytest.importorskip("prometheus_client", reason="the extra cowtrace[prometheus] is not installed")

from prometheus_client import exposition
from prometheus_client.parser import text_string_to_metric_families

from cowtrace.model import (
    Account,
    Cause,
    Completeness,
    FaultKind,
    Origin,
    Place,
    Process,
    Snapshot,
    Source,
)
from cowtrace.proc import Places
from cowtrace.prometheus.bounded_groups import REST, RETIRED, BoundedGroups
from cowtrace.prometheus.changes import Changes
from cowtrace.prometheus.metrics import Metrics, bpf_cost, own_state, web_config

Sample = dict[str, str]
FAULTS, BYTES = "cowtrace_faults_total", "cowtrace_bytes_total"


def nowhere(pid: int) -> str | None:
    return "/"


def made(
    *snapshots: Snapshot, most: int = 100, cgroup_of: Callable[[int], str | None] = nowhere
) -> Metrics:
    metrics = Metrics(Places(lambda pid: Place(None, cgroup_of(pid))), most)
    for each in snapshots:
        metrics.add(each)
    return metrics


def scraped(metrics: Any) -> dict[str, list[tuple[Sample, float]]]:
    """As a Prometheus server reads it."""
    text = exposition.generate_latest(metrics).decode()
    found: dict[str, list[tuple[Sample, float]]] = {}
    for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(samples: Iterable[tuple[Sample, float]], **labels: str) -> float:
    return sum(value for told, value in samples if labels.items() <= told.items())


def test_counts_by_name_cgroup_kind_source_and_origin() -> None:
    now = snapshot(
        process(1, "redis", row(FaultKind.COPIED, 23), row(FaultKind.REUSED, 11)),
        process(2, "redis", row(FaultKind.COPIED, 509, Source.THP)),
        process(3, "other", row(FaultKind.UNCLASSIFIED, 7)),
    )
    cgroups = {1: "/a", 2: "/b", 3: "/b"}
    found = scraped(made(now, cgroup_of=cgroups.get))
    assert sorted((tuple(told.values()), value) for told, value in found[FAULTS]) == [
        (("/a", "redis", "copied", "user", "anon"), 23),
        (("/a", "redis", "reused", "user", "anon"), 11),
        (("/b", "other", "unclassified", "user", "anon"), 7),
        (("/b", "redis", "copied", "user", "thp"), 509),
    ]
    assert [value for _, value in found[BYTES]] == [23 * PAGE, 509 * PAGE]
    assert found["cowtrace_unclassified_faults_total"] == [({}, 7)]
    assert not any("pid" in told for samples in found.values() for told, _ in samples)


def test_two_processes_of_one_name_add_up_and_an_ended_one_stays() -> None:
    old = process(1, "worker", row(FaultKind.COPIED, 23), start_ns=1)
    new = process(2, "worker", row(FaultKind.COPIED, 11), start_ns=2)
    metrics = made(
        snapshot(old),
        snapshot(replace(old, exited=True), new, at=2),
        snapshot(new, at=3),  # the tracer has forgotten the other one
        snapshot(process(1, "worker", row(FaultKind.COPIED, 7), start_ns=3), new, at=4),
    )
    assert total(scraped(metrics)[FAULTS], comm="worker") == 23 + 11 + 7


def test_a_process_that_gets_its_start_later_counts_once() -> None:
    metrics = made(
        snapshot(process(1, "a", row(FaultKind.COPIED, 23))),
        snapshot(process(1, "a", row(FaultKind.COPIED, 29), start_ns=5), at=2),
    )
    assert total(scraped(metrics)[FAULTS]) == 29


def test_what_is_taken_back_makes_no_counter_fall() -> None:
    metrics = made(snapshot(process(1, "a", row(FaultKind.REUSED, 23))))
    assert total(scraped(metrics)[FAULTS]) == 23
    metrics.add(snapshot(process(1, "a", row(FaultKind.REUSED, 20)), at=2))
    assert total(scraped(metrics)[FAULTS]) == 23
    metrics.add(snapshot(process(1, "a", row(FaultKind.REUSED, 24)), at=3))
    assert total(scraped(metrics)[FAULTS]) == 24


def test_a_child_that_ended_is_in_the_cgroup_of_its_ancestors() -> None:
    child = process(3, "c", row(FaultKind.COPIED, 23), parent=2, exited=True)
    between = process(2, "b", parent=1, exited=True)
    known = {1: "/box"}
    found = scraped(made(snapshot(child, between), cgroup_of=known.get))
    assert [told["cgroup"] for told, _ in found[FAULTS]] == ["/box"]


@pytest.mark.parametrize("name", ['"}\n', "a\\", "\x1b[31m", "{pid=", "\udc80", REST, "é" * 15])
def test_hostile_names_are_labels_and_nothing_else(name: str) -> None:
    now = snapshot(*(process(n, c, row(FaultKind.COPIED, n)) for n, c in ((23, name), (11, "b"))))
    found = scraped(made(now, most=1, cgroup_of={23: f"/{name * 200}", 11: "/"}.get))
    assert len(found[FAULTS]) == 2
    (hostile,) = [told for told, value in found[FAULTS] if value == 23]
    assert not any(character in "".join(hostile.values()) for character in "\n\x1b\udc80")
    assert max(map(len, hostile.values())) <= 200
    (rest,) = [told for told, value in found[FAULTS] if value == 11]
    assert (rest["comm"], rest["cgroup"]) == (REST, REST)


Change = tuple[tuple[str, str], str, int, int]


def copied(name: str, faults: int, cgroup: str = "/") -> Change:
    return (name, cgroup), "copied", faults, faults


def labels(groups: BoundedGroups[str]) -> dict[str, int]:
    return {group[0]: faults for group, _, faults, _ in groups.items()}


@hypothesis.given(
    strategies.lists(
        strategies.tuples(
            strategies.lists(
                strategies.tuples(strategies.integers(0, 9), strategies.integers(1, 99)), max_size=9
            ),
            strategies.integers(0, 3000),
        ),
        max_size=30,
    ),
    strategies.integers(1, 4),
)
def test_groups_are_bounded_exact_and_only_grow(
    rounds: list[tuple[list[tuple[int, int]], int]], most: int
) -> None:
    """A series that leaves and comes back starts again at 0, as after a restart."""
    groups = BoundedGroups[str](most)
    before: dict[str, int] = {}
    counted = at = 0
    for changes, seconds in rounds:
        at += seconds
        groups.add([copied(str(number), faults) for number, faults in changes], at)
        counted += sum(faults for _, faults in changes)
        shown = labels(groups)
        assert sum(shown.values()) == counted
        assert len(shown.keys() - {REST, RETIRED}) <= most
        assert all(shown[group] >= before[group] for group in shown.keys() & before.keys())
        assert before.keys() & {REST, RETIRED} <= shown.keys()
        new = sum(faults for number, faults in changes if str(number) not in shown)
        assert shown.get(REST, 0) - before.get(REST, 0) == new  # no sum jumps into its rate
        before = shown


def test_a_group_that_grows_large_gets_a_label() -> None:
    groups = BoundedGroups[str](1)
    groups.add([copied("small", 23)], 0)
    for at in (1, 2, 3):
        groups.add([copied("large", 20)], at)
    assert labels(groups) == {"large": 20, REST: 40, RETIRED: 23}


def test_names_that_once_faulted_much_hold_no_label_for_ever() -> None:
    groups = BoundedGroups[str](100)
    groups.add([copied(f"idle {number}", 10**8) for number in range(100)], 0)
    for at in range(5, 3600, 5):
        groups.add([copied("late", 23)], at)
    assert labels(groups)["late"] > 0
    assert len(labels(groups)) == 100 - 1 + 1 + 2


def test_busy_names_of_one_user_do_not_hold_all_labels() -> None:
    """They fault ten times as much each, as long as they like."""
    groups, hostile = BoundedGroups[str](100), "/user.slice/user-1000.slice/session-1.scope"
    for at in range(0, 600, 5):
        changes = [copied(f"busy {number}", 1000, f"{hostile}/{number}") for number in range(200)]
        if at >= 60:
            changes.append(copied("redis", 100, "/system.slice/redis.service"))
        groups.add(changes, at)
    assert labels(groups)["redis"] > 0.9 * 100 * (600 - 60) / 5  # from the second round or so


def test_a_storm_of_names_makes_few_series() -> None:
    """Each round has others, which fault more and more: as many as a name can ask for."""
    groups, seen = BoundedGroups[str](100), set[str]()
    for at in range(0, 3600, 15):
        groups.add([copied(f"{at} {number}", 3 ** min(at, 300)) for number in range(50)], at)
        seen |= labels(groups).keys()
    assert len(seen) < 100 * (1 + 3600 // 900 + 1)


def test_a_storm_of_names_takes_little_time_and_memory() -> None:
    groups = BoundedGroups[str](10_000)
    began = time.process_time()
    for at in range(10):
        groups.add([copied(f"{at} {number}", 7) for number in range(10_000)], at)
    assert time.process_time() - began < 60  # a minimum for each change takes minutes
    assert len(labels(groups)) <= 10_000 + 2
    assert len(groups._scores) <= 20_000


def test_forks_that_live() -> None:
    now = replace(
        snapshot(process(1, "redis"), process(2, "redis", parent=1)),
        generations=(
            fork(by_parent=23, by_child=11, shareable=100),
            fork(number=2, child=3, by_parent=509, ended=0.9),
        ),
    )
    metrics = made(now)
    found = scraped(metrics)
    assert [value for _, value in found["cowtrace_forks_live"]] == [1]
    assert total(found["cowtrace_forks_copied_bytes"], side="parent") == 23 * PAGE
    assert total(found["cowtrace_forks_copied_bytes"], side="child") == 11 * PAGE
    assert total(found["cowtrace_forks_shareable_bytes"]) == 100 * PAGE
    assert total(found["cowtrace_forks_worst_case_bytes"]) == 66 * PAGE
    metrics.add(replace(now, generations=(fork(shareable=None),)))
    assert "cowtrace_forks_worst_case_bytes" not in scraped(metrics)  # unknown is not 0


def test_what_calls_of_fork_took() -> None:
    now = replace(
        snapshot(process(1, "redis")),
        generations=(
            fork(1, fork_ns=3_000_000, page_table_bytes=23 * PAGE, ended=0.9),
            fork(2, fork_ns=1_500_000, page_table_bytes=29 * PAGE),
            fork(3, fork_ns=2_500_000, page_table_bytes=31 * PAGE),
            fork(4),
        ),
    )
    metrics = made(now)
    metrics.add(replace(now, at_ns=now.at_ns + 1_000_000_000))  # the same forks
    found = scraped(metrics)
    assert total(found["cowtrace_forks_page_table_bytes"]) == 60 * PAGE
    assert total(found["cowtrace_forks_longest_call_seconds"]) == 0.0025
    assert found["cowtrace_timed_forks_total"] == [({}, 3)]
    assert found["cowtrace_fork_seconds_total"] == [({}, 0.007)]
    unknown = scraped(made(replace(now, generations=(fork(),))))
    assert "cowtrace_forks_page_table_bytes" not in unknown  # unknown is not 0


@pytest.mark.parametrize(("copied", "growing"), [((1, 2, 3, 4), 1), ((60, 62, 62, 63), 0)])
def test_a_fork_grows_until_it_levels_off(copied: tuple[int, ...], growing: int) -> None:
    metrics = made()
    for at, pages in enumerate(copied, 1):
        generations = (fork(by_parent=pages),)
        metrics.add(replace(snapshot(process(1), at=20 * at), generations=generations))
    (shown,) = scraped(metrics)["cowtrace_forks_growing"]
    assert shown[1] == growing


def test_completeness_is_in_it() -> None:
    lossy = snapshot(
        completeness=Completeness(23, (("slot taken", 23),)), unseen=frozenset({FaultKind.SHARED})
    )
    found = scraped(made(lossy))
    assert found["cowtrace_lost_faults_total"] == [({}, 23)]
    assert found["cowtrace_losses_total"] == [({"cause": "slot taken"}, 23)]
    unseen = {told["kind"]: value for told, value in found["cowtrace_kind_unseen"]}
    assert unseen["shared"] == 1
    assert unseen["copied"] == 0
    assert scraped(made(snapshot()))["cowtrace_lost_faults_total"] == [({}, 0)]


def test_private_memory_of_the_chosen_processes() -> None:
    accounts = (
        Account(
            7, now=90 * PAGE, began=23 * PAGE, files=3 * PAGE, by_cause={Cause.TOUCHED: 60 * PAGE}
        ),
        Account(8, ended=True, now=11 * PAGE, by_cause={Cause.TOUCHED: 11 * PAGE}),
    )
    metrics = made(replace(snapshot(), accounts=accounts))
    found = scraped(metrics)
    assert total(found["cowtrace_private_bytes"]) == 90 * PAGE
    assert total(found["cowtrace_private_changes_bytes_total"], cause="touched") == 71 * PAGE
    assert total(found["cowtrace_private_unexplained_bytes"]) == 4 * PAGE
    assert total(found["cowtrace_private_file_bytes"]) == 3 * PAGE
    assert "cowtrace_private_bytes" not in scraped(made(snapshot()))


def test_own_cost() -> None:
    class Cost:
        def collect(self) -> Any:
            return bpf_cost(1_500_000_000, 23)

    found = scraped(Cost())
    assert found["cowtrace_bpf_run_seconds_total"] == [({}, 1.5)]
    assert found["cowtrace_bpf_runs_total"] == [({}, 23)]


def test_a_kind_that_is_taken_back_whole_is_taken_back() -> None:
    before = process(1, "a", row(FaultKind.REUSED, 23), row(FaultKind.COPIED, 7))
    after = process(1, "a", row(FaultKind.COPIED, 30))
    changes = Changes(Places(lambda pid: Place(None, "/")))
    list(changes.of(snapshot(before)))
    found = [(each.kind[0], each.faults) for each in changes.of(snapshot(after, at=2))]
    assert sorted(found) == [(FaultKind.COPIED, 23), (FaultKind.REUSED, -23)]


def test_a_pid_that_comes_back_at_once_starts_at_0() -> None:
    metrics = made(
        snapshot(process(1, "worker", row(FaultKind.COPIED, 23), start_ns=1)),
        snapshot(process(1, "worker", row(FaultKind.COPIED, 7), start_ns=2), at=2),
    )
    assert total(scraped(metrics)[FAULTS], comm="worker") == 23 + 7


def test_writes_of_two_other_processes_add_up() -> None:
    one = replace(row(FaultKind.COPIED, 23), origin=Origin.REMOTE, actor=8)
    other = replace(row(FaultKind.COPIED, 11), origin=Origin.REMOTE, actor=9)
    assert total(scraped(made(snapshot(process(1, "a", one, other))))[FAULTS]) == 23 + 11


def test_a_process_that_did_not_change_is_not_looked_up_again() -> None:
    looked_up = []

    class Asked(Places):
        def of(self, process: Process) -> Place:
            looked_up.append(process.pid)
            return Place(None, "/")

    changes = Changes(Asked())
    same = process(1, "a", row(FaultKind.COPIED, 23))
    for at in (1, 2):
        list(changes.of(snapshot(same, process(2, "b", row(FaultKind.COPIED, at)), at=at)))
    assert looked_up == [1, 2, 2]


def test_a_fork_belongs_to_its_parents_name_and_cgroup() -> None:
    now = replace(
        snapshot(
            process(1, "server", row(FaultKind.COPIED, 1)),
            process(2, "saver", row(FaultKind.COPIED, 1), parent=1),
        ),
        generations=(fork(),),
    )
    (shown,) = scraped(made(now, cgroup_of={1: "/a", 2: "/b"}.get))["cowtrace_forks_live"]
    assert shown == ({"comm": "server", "cgroup": "/a"}, 1)


def test_a_fork_that_was_looked_at_too_rarely_does_not_grow_yet() -> None:
    metrics = made()
    for at, pages in enumerate((1, 2, 3), 1):
        generations = (fork(by_parent=pages),)
        metrics.add(replace(snapshot(process(1), at=20 * at), generations=generations))
    ((_, growing),) = scraped(metrics)["cowtrace_forks_growing"]
    assert growing == 0


def test_the_age_of_the_counts_is_on_the_page() -> None:
    class Own:
        def collect(self) -> Any:
            return (*own_state(1_800_000_000.5, 0.25), web_config(False))

    found = scraped(Own())
    assert found["cowtrace_snapshot_timestamp_seconds"] == [({}, 1_800_000_000.5)]
    assert found["cowtrace_snapshot_duration_seconds"] == [({}, 0.25)]
    assert found["cowtrace_web_config_current"] == [({}, 0)]
    assert "cowtrace_web_config_current" not in scraped(made(snapshot()))


def test_what_live_forks_will_copy_and_what_is_left_for_it() -> None:
    metrics = Metrics(Places(lambda pid: Place(None, "/gone")), 9)
    for seconds in (1, 2, 3):
        live = fork(1, 1, 2, at=0.5, by_parent=503 * seconds, shareable=20_011)
        now = snapshot(process(1, "redis", row(FaultKind.COPIED, 503)), at=seconds)
        metrics.add(replace(now, generations=(live,)))
    found = scraped(metrics)
    parts = {labels["quantile"]: value for labels, value in found["cowtrace_forks_forecast_bytes"]}
    assert 0 <= parts["0.1"] <= parts["0.5"] <= parts["0.9"] <= (20_011 - 1509) * PAGE
    ((labels, left),) = found["cowtrace_forks_memory_left_bytes"]
    assert labels == {"comm": "redis", "cgroup": "/gone"}
    assert left > 0  # of this machine
