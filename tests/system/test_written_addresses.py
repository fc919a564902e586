"""The address of a copy is that of the byte that was written."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command import PATIENCE
from workload_checks import IN_VM, plans

from cowtrace import tracer
from cowtrace.model import Event, FaultKind
from cowtrace.tracer.filter import Filter

pytestmark = [
    pytest.mark.host, pytest.mark.vm, pytest.mark.spread("6.12"),
    pytest.mark.usefixtures("can_trace"),
]  # fmt: skip

PAGES, STEP = 211, 37
PLANS: tuple[str, ...] = plans() if IN_VM else ("auto",)
# A line to stdin forks a child that writes one byte of each page; the next one ends it.
SCRIPT = f"""
import ctypes, mmap, os, sys
memory = mmap.mmap(-1, {PAGES} * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
memory[:] = bytes([1]) * len(memory)
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
sys.stdin.readline()
child = os.fork()
if not child:
    for page in range({PAGES}):
        memory[page * mmap.PAGESIZE + page * {STEP} % mmap.PAGESIZE] = 2
    print("over", flush=True)
    sys.stdin.readline()
    os._exit(0)
os.waitpid(child, 0)
"""


@contextmanager
def writer() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """And where its memory begins."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as made:
        assert made.stdout
        try:
            yield made, int(made.stdout.readline())
        finally:
            made.kill()


def go(made: subprocess.Popen[str]) -> None:
    assert made.stdin
    assert made.stdout
    made.stdin.write("\n")
    made.stdin.flush()
    assert made.stdout.readline() == "over\n"


def written(page: int) -> int:
    """The offset of the byte in its page."""
    return page * STEP % mmap.PAGESIZE


@pytest.mark.parametrize("plan", PLANS)
def test_each_event_has_the_address_of_the_byte(plan: str) -> None:
    with writer() as (made, start):
        expected = {start + page * mmap.PAGESIZE + written(page) for page in range(PAGES)}
        last = start + PAGES * mmap.PAGESIZE
        only = Filter(pids=(made.pid,), follow=True)
        with tracer.attach(plan, events=True, only=only) as live:
            assert live.probe_plan.shows_addresses
            go(made)
            found: list[Event] = []
            end = time.monotonic() + PATIENCE
            while len(found) < PAGES and time.monotonic() < end:
                found += [
                    event
                    for event in live.events(0.1)
                    if event.kind is FaultKind.COPIED and start <= event.address < last
                ]
    assert {event.address for event in found if event.is_exact} == expected
    assert len(found) == PAGES


@pytest.mark.parametrize("plan", PLANS)
def test_eighths_of_pages_are_counted(plan: str) -> None:
    expected = Counter(written(page) * 8 // mmap.PAGESIZE for page in range(PAGES))
    with writer() as (made, start):
        only = Filter(pids=(made.pid,), follow=True)
        details = frozenset({"mapping", "page-eighth"})
        region = (start, start + PAGES * mmap.PAGESIZE)
        with tracer.attach(plan, details=details, only=only, region=region) as live:  # type: ignore[arg-type]
            go(made)
            found: Counter[int | None] = Counter()
            for row in live.snapshot().details:
                if row.kind is FaultKind.COPIED:
                    found[row.eighth] += row.faults
    assert found == expected
