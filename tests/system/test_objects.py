"""What copies changed in CPython: exact where it is known beforehand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import PATIENCE
from pythons import every_python
from workload_checks import plans

from cowtrace import tracer
from cowtrace.model import FaultKind, Phase, Snapshot, WriteCause, Written
from cowtrace.tracer.filter import Filter

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.usefixtures("can_trace")]

# Its text: an interpreter of another root folder does not have the file.
SCRIPT = Path(__file__).with_name("cpython_writes.py").read_text()
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
COUNT, DATA = WriteCause.REFERENCE_COUNT, WriteCause.OBJECT_DATA
EXPECTED = {
    "counts": Written(COUNT, "__main__.Node", Phase.RUNNING),
    "collects": Written(WriteCause.GC_HEADER, "__main__.Node", Phase.COLLECTING_2),
    "writes": Written(DATA, "__main__.Node", Phase.RUNNING),
    "ends": Written(WriteCause.GC_HEADER, "__main__.Node", Phase.SHUTTING_DOWN),
}
PACED_PAGES = 1009  # with the interpreter's own below 2048, from which on not each is sampled
PACED = f"""
import mmap, os, sys, time
pages = mmap.mmap(-1, {PACED_PAGES * PAGE_BYTES}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
pages[:] = bytes(len(pages))
sys.stdin.readline()
if os.fork():
    os.wait()
    sys.exit()
for start in range(0, len(pages), {PAGE_BYTES}):
    pages[start] = 1
    time.sleep(0.001)
"""
PLANS = ("auto",) if "COWTRACE_VM" not in os.environ else plans()


@contextmanager
def traced(python: str, way: str, plan: str) -> Iterator[tuple[int, Snapshot]]:
    """How many pages it writes in that way; the trace, of it and its child alone."""
    with subprocess.Popen(
        [python, "-I", "-S", "-c", SCRIPT, way, str(PAGE_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdin
        assert writer.stdout
        try:
            pages = int(writer.stdout.readline())
            only = Filter(pids=(writer.pid,), follow=True)
            with tracer.attach(plan, objects=True, only=only) as live:
                writer.stdin.write("\n")
                writer.stdin.flush()
                assert writer.stdout.readline() == "over\n"
                yield pages, live.snapshot()
                writer.stdin.close()
                assert writer.wait(PATIENCE) == 0
        finally:
            writer.kill()


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("way", EXPECTED)
@every_python
def test_each_page_has_its_cause(python: str, way: str, plan: str) -> None:
    with traced(python, way, plan) as (pages, found):
        written: Counter[Written | None] = Counter()
        for row in found.samples:
            written[row.written] += row.faults
        if FaultKind.SHARED in found.unseen:  # before 6.1, this plan cannot read the written page
            assert {each and each.cause for each in written} == {WriteCause.UNKNOWN}
            unexplained = dict(found.completeness.detail)["writes not explained"]
            assert unexplained == sum(written.values()) > pages
            return
        assert written[EXPECTED[way]] == pages, written
        mine = EXPECTED[way].type
        others = {each: n for each, n in written.items() if each and each.type == mine}
        assert others == {EXPECTED[way]: pages}, written
        copied = sum(process.copied_bytes for process in found.processes) // PAGE_BYTES
        assert sum(written.values()) == copied
        known = sum(n for each, n in written.items() if each and each.cause != WriteCause.UNKNOWN)
        assert known >= 0.95 * copied, written
        assert found.completeness.lost_details == 0, found.completeness


@pytest.mark.parametrize("plan", PLANS)
def test_each_snapshot_has_the_samples_of_its_copies(plan: str) -> None:
    """Those that come while it is taken are left to the next one: as its counts leave them."""
    command = [sys.executable, "-I", "-S", "-c", PACED]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as writer:
        only = Filter(pids=(writer.pid,), follow=True)
        with tracer.attach(plan, objects=True, only=only) as live:
            assert writer.stdin
            writer.stdin.close()
            ended, copied = False, 0
            while not ended:
                ended = writer.poll() is not None
                found = live.snapshot()
                assert found.completeness.lost_details == 0, found.completeness
                copied = sum(each.copied_bytes for each in found.processes) // PAGE_BYTES
                assert sum(row.faults for row in found.samples) == copied
    assert writer.returncode == 0
    assert copied > PACED_PAGES
