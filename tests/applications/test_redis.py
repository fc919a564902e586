"""Debian's redis-server: what BGSAVE costs while clients write, against Redis's own figure."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from applications import memory
from applications.application import Application, children, output, running, scratch
from applications.watched import MIB, Watched, fork_of, need, no_mapping, uncertain_bytes
from cowtrace.analysis.forecaster import Forecaster, Progress
from cowtrace.model import (
    COPIES,
    DetailRow,
    FaultKind,
    ForkGeneration,
    MappingType,
    Snapshot,
    Source,
)
from cowtrace.workloads import settings
from cowtrace.workloads.region import HUGE_BYTES, PAGE_BYTES

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.spread("7.2")]

THP = "/sys/kernel/mm/transparent_hugepage/enabled"
KEYS = 100_000
# Between a look by the trace and one by the oracle Redis's timer, 10 times a second, may write
# to pages that it has not written since the fork: 21 were seen on a busy machine, of some 4,700.
TIMER_BYTES = 64 * PAGE_BYTES
# What the child takes anew while it saves, which is no copy but private to it: buffers of the
# file and of the allocator.
BUFFERS_BYTES = MIB


@dataclass(frozen=True)
class Redis:
    app: Application
    socket: Path

    def info(self, name: str) -> str:
        """A field of INFO."""
        fields = output("redis-cli", "-s", self.socket, "info", "everything").splitlines()
        return next(field.partition(":")[2] for field in fields if field.startswith(f"{name}:"))

    def write(self, requests: int) -> None:
        """SET of random ones of KEYS keys, 100 bytes each."""
        options = ["-t", "set", "-n", requests, "-r", KEYS, "-d", 100, "-P", 32, "-q"]
        output("redis-benchmark", "-s", self.socket, *map(str, options))

    def save(self) -> int:
        """BGSAVE; the pid of its child."""
        output("redis-cli", "-s", self.socket, "bgsave")
        (child,) = children(self.app.pid)
        return child


@contextmanager
def server(*options: str) -> Iterator[Redis]:
    with scratch() as folder:
        socket = folder / "redis.sock"
        own = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
        own += ["--save", ""]
        # Sleep after each tenth key, half a second in all: a child lives until it is stopped.
        own += ["--rdb-key-save-delay", "-10"]
        # jemalloc gives nothing back to the kernel meanwhile: pages that the parent gave back
        # would be the child's alone as well, without any copy.
        kept = {"MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}
        with running(["redis-server", *own, *options], folder, env=kept) as app:
            app.wait_until(socket.exists, "redis-server did not open its socket")
            redis = Redis(app, socket)
            redis.write(2 * KEYS)
            yield redis


# A real-time kernel has no transparent huge pages at all.
@pytest.mark.parametrize("thp", ["never", "always"] if Path(THP).exists() else [None])
def test_copies_of_the_redis_parent_during_bgsave(watched: Watched, thp: str | None) -> None:
    need("redis-server", "redis-server")
    disable = "no" if thp == "always" else "yes"
    # One of 32 MiB, as where small ones have 16 KiB, needs more than this heap.
    may_be_huge = thp == "always" and HUGE_BYTES <= 2 << 20
    with settings.changed({THP: thp} if thp else {}), server("--disable-thp", disable) as redis:
        huge = memory.rollup(redis.app.pid)["AnonHugePages"]
        assert (huge > 0) == may_be_huge
        child = redis.save()
        # Stopped, so that it lives until the writes are done, however fast this machine is.
        os.kill(child, signal.SIGSTOP)
        before, private_before = watched.look(), memory.rollup(child)["Private_Dirty"]
        started = time.monotonic_ns()
        redis.write(KEYS // 2)
        took_ns = time.monotonic_ns() - started
        after, private_after = watched.look(), memory.rollup(child)["Private_Dirty"]
        os.kill(child, signal.SIGCONT)
        redis.app.wait_until(lambda: redis.info("rdb_bgsave_in_progress") == "0", "BGSAVE")
        last_cow_size = int(redis.info("rdb_last_cow_size"))
        done = watched.look()
        parent = redis.app.pid
    for plan, end in done.items():
        first, then, last = (fork_of(look[plan], child) for look in (before, after, done))
        smaps = private_after - private_before
        assert_smaps_agrees(first, then, smaps, uncertain_bytes(end))
        assert_redis_agrees(last, last_cow_size, uncertain_bytes(end))
        # Enough was written for this to mean something; khugepaged makes the heap larger meanwhile.
        assert last.shareable_bytes
        assert last.parent_copied_bytes > last.shareable_bytes / 4
        rows = [row for row in end.details if row.pid == parent and row.generation == last.number]
        copies = [row for row in rows if row.kind in COPIES]
        assert_small(copies, last)
        if watched.supports(plan, "mapping"):
            assert_heap(copies, last, end, huge=may_be_huge)
        else:
            assert no_mapping(end)
        assert_latency(rows, took_ns if watched.supports(plan, "latency") else None)


def test_the_forecast_of_a_save_ends_with_what_it_copied(watched: Watched) -> None:
    """Between the fork and the end it stays between what is copied and what was shared."""
    need("redis-server", "redis-server")
    tellers = {plan: Forecaster() for plan in watched.tracers}
    with server() as redis:
        child = redis.save()
        os.kill(child, signal.SIGSTOP)
        for step in range(1, 4):
            redis.write(KEYS // 8)
            for plan, now in watched.look().items():
                tellers[plan].note(now, {redis.app.pid: Progress(step / 8)})
                made = tellers[plan].forecasts(now).get(fork_of(now, child).number)
                if step > 1:
                    assert made
                    assert made.copied_bytes == fork_of(now, child).copied_bytes
                    assert made.copied_bytes <= made.low_bytes <= made.expected_bytes
                    assert made.expected_bytes <= made.high_bytes
        os.kill(child, signal.SIGCONT)
        redis.app.wait_until(lambda: redis.info("rdb_bgsave_in_progress") == "0", "BGSAVE")
        done = watched.look()
    for plan, now in done.items():
        last = fork_of(now, child)
        tellers[plan].note(now)
        made = tellers[plan].forecasts(now)[last.number]
        assert made.low_bytes == made.expected_bytes == made.high_bytes == last.copied_bytes
        assert tellers[plan].earlier_totals(redis.app.pid) == (last.copied_bytes,)


def assert_smaps_agrees(
    first: ForkGeneration, then: ForkGeneration, private_bytes: int, uncertain: int
) -> None:
    """A page that the parent copies leaves the old one to the child alone: Private_Dirty.

    Not if the child had copied it before: both sides copy small pages of a huge one.
    """
    copied = then.parent_copied_bytes - first.parent_copied_bytes
    slack = TIMER_BYTES + uncertain
    assert -slack <= copied - private_bytes <= first.child_copied_bytes + slack


def assert_redis_agrees(last: ForkGeneration, last_cow_size: int, uncertain: int) -> None:
    """Redis sums Private_Dirty in the child's smaps when it has saved.

    All that the parent copied is in it, for the old pages are the child's alone now, and all that
    the child copied; where both have copied a page, once. Besides, what the child took anew.
    """
    slack = TIMER_BYTES + uncertain
    assert last.parent_copied_bytes - slack <= last_cow_size
    assert last_cow_size <= last.copied_bytes + BUFFERS_BYTES + slack


def assert_small(copies: list[DetailRow], last: ForkGeneration) -> None:
    """Of small pages, whose sum is exact: a write to a shared huge page does not copy 2 MiB.

    It splits the huge page and copies one small one.
    """
    assert sum(row.bytes for row in copies) == last.parent_copied_bytes
    assert all(row.bytes == row.faults * PAGE_BYTES for row in copies)


def assert_heap(
    copies: list[DetailRow], last: ForkGeneration, end: Snapshot, *, huge: bool
) -> None:
    """In the heap, which jemalloc has in anonymous mappings."""
    heap = [
        row
        for row in copies
        if row.mapping and row.mapping.type in (MappingType.ANON, MappingType.HEAP)
    ]
    assert sum(row.bytes for row in heap) > 0.95 * last.parent_copied_bytes
    if end.plan != "tracepoint":  # which does not distinguish huge pages
        of_huge = sum(row.bytes for row in heap if row.source is Source.THP)
        assert (of_huge > 0) == huge


def assert_latency(rows: list[DetailRow], took_ns: int | None) -> None:
    """Redis writes in one thread: together its copies took less than the clients' writes."""
    copied = [row for row in rows if row.kind is FaultKind.COPIED]
    if took_ns is None:
        assert {(row.latency, row.ns) for row in copied} == {(None, None)}
        return
    assert all(row.latency is not None and row.ns is not None for row in copied)
    assert 0 < sum(row.ns or 0 for row in copied) < took_ns
    for row in copied:
        assert (
            row.faults << (row.latency or 0) <= (row.ns or 0) < row.faults << (row.latency or 0) + 1
        )
