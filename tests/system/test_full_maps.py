"""Make each BPF map too small: what a figure lacks is counted as lost, and the rest is right."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
from command import PATIENCE, eventually
from sources import writes
from writers import (
    PAGE,
    PAGES,
    cause,
    copied,
    end,
    parent_of_writers,
    region_tracer,
    sleeping_child,
)

from cowtrace import tracer
from cowtrace.kernel.options import DETAILS
from cowtrace.model import FaultKind
from cowtrace.tracer import Tracer, abi, bpf_maps
from cowtrace.tracer.filter import Filter
from cowtrace.tracer.loader import MAP_SIZES
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread,
]

WRITERS = 23
TRUTH = WRITERS * PAGES
ROOM = 4
OWN = Filter(pids=(os.getpid(),), follow=True)
# The command line, with that much room for processes.
WITH_ROOM = f"""
import sys
from cowtrace.tracer import loader
loader.MAP_SIZES["processes"] = {ROOM}
from cowtrace.cli import main
main(sys.argv[1:], prog_name="cowtrace")
"""
FORKS = f"""
{writes(PAGES)}
for writer in range({WRITERS}):
    child = os.fork()
    if not child:
        write()
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAP_SIZES, "fault_sums", ROOM)
    writers = 251
    with region_tracer(OWN) as live:
        with parent_of_writers() as write:
            children = [write(PAGES) for _ in range(writers)]
        snapshot = live.snapshot()
    assert len(set(children)) == writers
    counts = [copied(snapshot, child) for child in children]
    assert max(counts) == PAGES  # never more
    assert 0 < sum(counts) < writers * PAGES
    # The tracepoint plan counts a copy as re-marked first, and may have lost that as well.
    missing = writers * PAGES - sum(counts)
    assert missing <= cause(snapshot, "sums full") <= 2 * writers * PAGES - sum(counts)
    assert missing <= snapshot.completeness.lost


def test_run_counts_children_whose_parent_is_unknown() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITH_ROOM, "run", "--json", "--quiet", "--", sys.executable, "-c",
         FORKS],
        stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    found = json.loads(ended.stdout)
    assert found["lost_by_cause"]["processes full"] > 0
    assert found["lost"] > 0
    assert sum(process["copied"] for process in found["processes"]) >= TRUTH


def test_a_descendant_that_the_filter_has_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAP_SIZES, "wanted", ROOM)
    with region_tracer(OWN) as live, parent_of_writers() as write:
        sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(ROOM)]
        child = write(PAGES)
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
        snapshot = live.snapshot()
    assert copied(snapshot, child) == 0
    assert cause(snapshot, "filter full") > 0
    assert snapshot.completeness.lost > 0


def has_no(wanted: int, pid: int) -> bool:
    return bpf_maps.read_element(wanted, abi.U32.pack(pid), abi.U64) is None


def test_descendants_that_have_ended_take_no_room_in_the_filter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(MAP_SIZES, "wanted", 32)
    with region_tracer(OWN) as live, parent_of_writers() as write:
        children, wanted = [], live._loaded.maps["wanted"]
        for _ in range(127):
            children.append(write(PAGES))
            # The kernel frees a process a grace period after its end.
            assert eventually(partial(has_no, wanted, children[-1]))
        snapshot = live.snapshot()
    assert [copied(snapshot, child) for child in children] == [PAGES] * 127
    assert cause(snapshot, "filter full") == 0


def in_detail(live: Tracer) -> int:
    rows = live.snapshot().details
    return sum(row.faults for row in rows if row.kind is FaultKind.COPIED)


def with_mapping(live: Tracer) -> int:
    rows = live.snapshot().details
    return sum(row.faults for row in rows if row.kind is FaultKind.COPIED and row.mapping)


def with_stacks(live: Tracer) -> int:
    rows = [row for row in live.snapshot().details if row.user_stack and row.kernel_stack]
    return sum(row.faults for row in rows if row.kind is FaultKind.COPIED)


def of_forks(live: Tracer) -> int:
    return sum(each.child_copied_bytes for each in live.snapshot().generations) // PAGE


def sampled(live: Tracer) -> int:
    return sum(row.faults for row in live.snapshot().samples)


def events(live: Tracer) -> int:
    found = [*live.events(0), *live.events(0)]
    return sum(event.kind is FaultKind.COPIED for event in found)


def write_protected(live: Tracer) -> int:
    children = (each for each in live.snapshot().processes if each.pid != os.getpid())
    totals = (child.page_faults for child in children)
    return sum(min(PAGES, each.write_protect) for each in totals if each)


@pytest.mark.parametrize(
    ("small", "room", "shown", "words"),
    [
        ("details", ROOM, in_detail, "details full"),
        ("mappings", ROOM, with_mapping, "mappings full"),
        ("stacks", 1, with_stacks, "stacks full"),
        ("samples", 8 * PAGE, sampled, "samples dropped"),
        ("events", PAGE, events, "events dropped"),
        ("generations", ROOM, of_forks, "generations full"),
        ("page_faults", ROOM, write_protected, "page faults full"),
    ],
)
def test_details(
    monkeypatch: pytest.MonkeyPatch,
    small: str,
    room: int,
    shown: Callable[[Tracer], int],
    words: str,
) -> None:
    monkeypatch.setitem(MAP_SIZES, small, room)
    with tracer.attach(
        region=(REGION_START, REGION_END),
        only=OWN,
        details=frozenset(DETAILS),
        events=shown is events,
        samples=shown is sampled,
        page_faults=shown is write_protected,
    ) as live:
        with parent_of_writers() as write:
            children = [write(PAGES) for _ in range(WRITERS)]
        if shown is with_mapping and "mapping" not in live.probe_plan.details:
            return  # this plan shows none on this kernel
        if shown is write_protected and "PAGE_FAULTS" not in live.probe_plan.defines:
            return  # this kernel has no totals
        figure = shown(live)
        done = live.snapshot()
    assert figure < TRUTH
    assert sum(copied(done, child) for child in children) == TRUTH
    assert cause(done, words) > 0
    # A fork is lost with all its copies; a dropped sample's copies wait for the next one.
    if shown not in (of_forks, sampled):
        assert figure + cause(done, words) >= TRUTH
    assert done.completeness.lost_details >= cause(done, words)


def test_a_copy_of_which_the_fork_is_too_far_back() -> None:
    later = 40  # forks, which all end before the copies; the search takes 32
    with tracer.attach(
        region=(REGION_START, REGION_END), only=OWN, details=frozenset({"generation"})
    ) as live:
        with parent_of_writers():
            children = [sleeping_child() for _ in range(1 + later)]
            for child in children[:0:-1]:
                end(child)
            for page in range(PAGES):
                ctypes.memset(REGION_START + page * PAGE, 3, 1)
            end(children[0])
        done = live.snapshot()
    assert copied(done, os.getpid()) == PAGES
    missing = PAGES - sum(each.parent_copied_bytes for each in done.generations) // PAGE
    assert 0 < missing <= done.completeness.lost_details
    assert cause(done, "fork not found") >= missing
