"""Attribute copies to forks: with several forks, after a child has ended, after exec."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from writers import PAGE, PAGES, cause, copied, end, parent_of_writers, sleeping_child

from cowtrace import tracer
from cowtrace.model import Ending
from cowtrace.tracer.filter import Filter
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread,
]

LATER = 29  # forks; CHAIN in bpf/generation.h is 32
BEFORE, AFTER = 53, 59  # pages
# Read the pages of a file, then write them: copies that no fork caused.
COPIES_A_FILE = f"""
from cowtrace.workloads.region import Backing, map_region
region = map_region({PAGES}, Backing.PRIVATE_FILE)
region.load()
region.store(1)
"""


@contextmanager
def fork_tracer() -> Iterator[tracer.Tracer]:
    with tracer.attach(
        region=(REGION_START, REGION_END),
        details=frozenset({"generation"}),
        only=Filter(pids=(os.getpid(),), follow=True),
    ) as live:
        yield live


def write(pages: range) -> None:
    for page in pages:
        ctypes.memset(REGION_START + page * PAGE, 3, 1)


def forked(work: Callable[[], None]) -> int:
    """Fork a child that does this work and exits."""
    if not (child := os.fork()):
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_a_parents_copies_are_attributed_to_its_latest_fork_whose_child_runs() -> None:
    with fork_tracer() as live, parent_of_writers():
        children = [sleeping_child() for _ in range(1 + LATER)]
        for child in children[:0:-1]:
            end(child)
        write(range(PAGES))
        end(children[0])
        done = live.snapshot()
    assert copied(done, os.getpid()) == PAGES
    found = {fork.child: fork.parent_copied_bytes // PAGE for fork in done.generations}
    assert found == dict.fromkeys(children, 0) | {children[0]: PAGES}
    assert cause(done, "fork not found") == 0


def test_a_child_that_has_forked_counts_as_a_parent_first() -> None:
    def work() -> None:
        grandchild = sleeping_child()
        write(range(BEFORE))
        end(grandchild)
        write(range(BEFORE, BEFORE + AFTER))

    with fork_tracer() as live, parent_of_writers():
        os.waitpid(child := forked(work), 0)
        done = live.snapshot()
    (by_parent,) = (fork for fork in done.generations if fork.child == child)
    (by_child,) = (fork for fork in done.generations if fork.parent == child)
    assert (by_parent.parent_copied_bytes, by_parent.child_copied_bytes) == (0, AFTER * PAGE)
    assert (by_child.parent_copied_bytes, by_child.child_copied_bytes) == (BEFORE * PAGE, 0)


def test_copies_after_exec_are_attributed_to_no_fork() -> None:
    def work() -> None:
        os.setpgid(0, 0)
        sleeping_child()
        os.execv(sys.executable, [sys.executable, "-c", COPIES_A_FILE])

    with fork_tracer() as live:
        os.waitpid(child := forked(work), 0)
        done = live.snapshot()
        os.killpg(child, signal.SIGKILL)
    assert copied(done, child) == PAGES
    (by_parent,) = (fork for fork in done.generations if fork.child == child)
    (by_child,) = (fork for fork in done.generations if fork.parent == child)
    assert by_parent.ended_by is Ending.EXEC
    assert by_child.ended_by is None  # it still runs
    assert (by_parent.copied_bytes, by_child.copied_bytes) == (0, 0)
