"""Snapshots in, Prometheus metrics out: exact, monotonic, bounded, safe."""

from __future__ import annotations

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

from cowtrace.model import Completeness, FaultKind, Origin, Place, Process, Snapshot, Source
from cowtrace.proc import Places
from cowtrace.prometheus.bounded_groups import REST, BoundedGroups
from cowtrace.prometheus.changes import Changes
from cowtrace.prometheus.metrics import Metrics, bpf_cost

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


@hypothesis.given(
    strategies.lists(
        strategies.tuples(strategies.integers(0, 9), strategies.integers(1, 99)), max_size=60
    ),
    strategies.integers(1, 4),
)
def test_groups_are_bounded_exact_and_only_grow(changes: list[tuple[int, int]], most: int) -> None:
    groups = BoundedGroups[str](most)
    before: dict[tuple[str, str], int] = {}
    for at, (number, faults) in enumerate(changes, 1):
        groups.add((str(number), "/"), "copied", faults, faults)
        shown = {group: faults for group, _, faults, _ in groups.items()}
        assert sum(shown.values()) == sum(each for _, each in changes[:at])
        assert len(shown.keys() - {(REST, REST)}) <= most
        assert all(shown[group] >= before[group] for group in shown.keys() & before.keys())
        before = shown


def test_a_group_that_grows_large_gets_a_label() -> None:
    groups = BoundedGroups[str](1)
    groups.add(("small", "/"), "copied", 23, 0)
    for _ in range(3):
        groups.add(("large", "/"), "copied", 20, 0)
    assert {group[0]: faults for group, _, faults, _ in groups.items()} == {
        "large": 20,  # those before are in the rest, and stay there
        REST: 23 + 40,
    }


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
