"""Which process, thread and fork a fault is attributed to, and what of it is a page fault.

One program forks from a thread, writes in a thread, calls exec, and spawns a program without a
copy of its memory; another program, which the filter leaves out, does the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from command import PATIENCE, eventually
from sources import writes

from cowtrace import tracer
from cowtrace.kernel.options import Detail
from cowtrace.model import Ending, Event, FaultKind, ForkGeneration, Snapshot
from cowtrace.tracer.filter import Filter

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread("5.10", "6.12"),
]

DETAILS: frozenset[Detail] = frozenset({"generation"})
PAGES, TOUCHED = 509, 4099
WORK = f"""
{writes(PAGES)}
import contextlib, json, threading
found = {{"parent": os.getpid()}}

def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

def fork(name, work):
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    found[name] = child

def write_in_thread():
    def work():
        print(threading.get_native_id(), flush=True)
        write()
    in_thread(work)

print("ready", flush=True)
sys.stdin.readline()
new = mmap.mmap(-1, {TOUCHED} << 12, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
with contextlib.suppress(OSError):  # a real-time kernel has no huge pages
    new.madvise(mmap.MADV_NOHUGEPAGE)
for page in range({TOUCHED}):
    new[page << 12] = 1
in_thread(lambda: fork("of_thread", write))
fork("threaded", write_in_thread)
fork("executing", lambda: os.execv("/bin/sleep", ["sleep", "60"]))
found["spawned"] = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
for name in ("of_thread", "threaded"):
    os.waitpid(found[name], 0)
print(json.dumps(found), flush=True)
sys.stdin.readline()
for name in ("executing", "spawned"):
    os.kill(found[name], 9)
"""


@dataclass(frozen=True)
class Seen:
    """What a tracer of the one program saw of both."""

    pids: dict[str, int]
    thread: int  # that wrote in the process `threaded`
    strangers: dict[str, int]
    snapshot: Snapshot
    events: list[Event]

    def forks(self, child: str) -> list[ForkGeneration]:
        return [fork for fork in self.snapshot.generations if fork.child == self.pids[child]]


class Program:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == "ready"
        self.pid = self._process.pid

    def line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def work(self) -> tuple[int, dict[str, int]]:
        """The thread that wrote, and the pids of all processes by their names."""
        self.go()
        return int(self.line()), json.loads(self.line())

    def go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self.go()
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    chosen, stranger = Program(), Program()
    only = Filter(pids=(chosen.pid,), follow=True)
    with tracer.attach("auto", details=DETAILS, events=True, page_faults=True, only=only) as live:
        thread, pids = chosen.work()
        _, strangers = stranger.work()

        def has_ended() -> bool:
            last = live.snapshot()
            ended = {fork.child for fork in last.generations if fork.ended_by}
            return pids["executing"] in ended

        assert eventually(has_ended)
        events = [*live.events(0), *live.events(0), *live.events(0)]
        snapshot = live.snapshot()
    yield Seen(pids, thread, strangers, snapshot, events)
    for each in (chosen, stranger):
        each.end()


def test_a_fork_by_a_thread_is_one_by_its_process(seen: Seen) -> None:
    (fork,) = seen.forks("of_thread")
    child = seen.snapshot.process(seen.pids["of_thread"])
    assert child is not None
    assert (fork.parent, child.parent) == (seen.pids["parent"], seen.pids["parent"])


def test_an_event_names_the_thread_and_a_count_the_process(seen: Seen) -> None:
    threaded = seen.pids["threaded"]
    assert seen.thread != threaded
    by_thread = [
        event
        for event in seen.events
        if (event.pid, event.tid, event.kind) == (threaded, seen.thread, FaultKind.COPIED)
    ]
    assert len(by_thread) >= PAGES - 2 * seen.snapshot.completeness.lost
    child = seen.snapshot.process(threaded)
    assert child is not None
    assert (child.count(FaultKind.COPIED) or 0) >= PAGES - 2 * seen.snapshot.completeness.lost
    assert seen.snapshot.process(seen.thread) is None


def test_exec_and_exit_end_a_generation(seen: Seen) -> None:
    assert [fork.ended_by for fork in seen.forks("executing")] == [Ending.EXEC]
    assert [fork.ended_by for fork in seen.forks("of_thread")] == [Ending.EXIT]


def test_a_program_that_is_spawned_shares_no_copy_of_the_memory(seen: Seen) -> None:
    assert seen.forks("spawned") == []


def test_a_first_touch_is_a_page_fault_of_the_program_and_hits_no_protected_page(
    seen: Seen,
) -> None:
    parent = seen.snapshot.process(seen.pids["parent"])
    assert parent is not None
    if parent.page_faults is None:  # arm64 has no such tracepoints
        assert seen.snapshot.plan != "tracepoint"
        return
    assert parent.page_faults.user >= TOUCHED > parent.page_faults.kernel
    assert parent.page_faults.write_protect < TOUCHED


def test_children_of_a_process_that_was_not_chosen_are_not_counted(seen: Seen) -> None:
    pids = {process.pid for process in seen.snapshot.processes}
    assert seen.pids["of_thread"] in pids
    assert pids.isdisjoint(seen.strangers.values())
