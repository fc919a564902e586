"""`cowtrace private`: what its rows add up to is what smaps says, whatever a process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import COWTRACE, PATIENCE
from workload_checks import CANNOT, IN_VM

from cowtrace.analysis.private import Accounts
from cowtrace.child import environment
from cowtrace.frames.words import PAGE_BYTES
from cowtrace.model import Account, Cause
from cowtrace.workloads import settings
from cowtrace.workloads.workload import WORKLOADS

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="frame numbers are root's"),
]

PAGES = 523
MOST_UNEXPLAINED = 64 << 10  # or a hundredth of the change
# Of an interpreter that goes on meanwhile, on each side of a fork.
STRAY_PAGES = 1500


UNSUPPORTED = 23
MANY_PROCESSES = 4
# Runs workloads in forks of its own, which rests meanwhile. A workload stops as it begins and ends;
# named with "often", after each of its actions, too; else after the first comparison of frames in
# each process, since reading takes long under emulation.
RUNS_WORKLOADS = f"""
import os, sys
from contextlib import contextmanager, suppress
from cowtrace.workloads import calls, settings
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.stepped_child import Child
from cowtrace.workloads.workload import WORKLOADS
from cowtrace.workloads.writer import Writer
compared = 0
def stop():
    os.write(1, b".")
    assert os.read(0, 1) == b"\\n"
def stops_after(method):
    def stopping(*args, **how):
        result = method(*args, **how)
        if often:
            stop()
        return result
    return stopping
def stops_at_end(method):
    @contextmanager
    def stopping(self, *args, **how):
        global compared
        with method(self, *args, **how) as made:
            if often:
                stop()
            yield made
        compared += method is comparison
        if often or method is comparison and compared == 1:
            stop()
    return stopping
comparison = Writer._compared
Writer._compared, Writer.fork = stops_at_end(Writer._compared), stops_at_end(Writer.fork)
Writer.populate, Child.do = stops_after(Writer.populate), stops_after(Child.do)
# khugepaged collapses the workload's memory, and leaves the interpreter's alone.
for line in open("/proc/self/maps"):
    span, rights, _, _, inode, *path = line.split()
    if rights == "rw-p" and inode == "0" and path in ([], ["[heap]"]):
        start, end = (int(address, 16) for address in span.split("-"))
        with suppress(OSError):  # without huge pages there is no such advice
            calls.madvise(start, end - start, calls.MADV_NOHUGEPAGE)
for line in iter(sys.stdin.buffer.raw.readline, b""):
    name, *often = line.decode().split()
    if not (pid := os.fork()):
        code = 1
        try:
            stop()
            WORKLOADS[name].run({PAGES})
            stop()
            code = 0
        except Unsupported:
            code = {UNSUPPORTED}
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    os.write(1, bytes([os.waitstatus_to_exitcode(status) & 127]))
"""


@pytest.fixture(scope="module")
def runner() -> Iterator[subprocess.Popen[bytes]]:
    """Started once, since that takes seconds under emulation."""
    with (
        settings.delay_accounting(),
        subprocess.Popen(
            [sys.executable, "-c", RUNS_WORKLOADS], env=environment(), bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as process,
    ):  # fmt: skip
        yield process
        assert process.stdin
        process.stdin.close()


def descendants(pid: int) -> set[int]:
    """As proc.descendants(), which looks at all of /proc: that takes long under emulation."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return set()
    return {int(child) for child in children}.union(*map(descendants, map(int, children)))


def read_at_each_stop(
    runner: subprocess.Popen[bytes], name: str, *, often: bool = False
) -> tuple[Account, ...]:
    """The accounts at the end: the parent's first, then its children's and of programs it ran."""
    assert runner.stdin
    assert runner.stdout
    accounts = Accounts()
    runner.stdin.write(f"{name} {'often' if often else ''}\n".encode())
    stops = 0
    while (said := runner.stdout.read(1)) == b".":
        stops += 1
        # Reading many processes takes long under emulation.
        if stops & (stops - 1) and len(accounts.accounts) > MANY_PROCESSES:
            runner.stdin.write(b"\n")
            continue
        accounts.read(lambda: descendants(runner.pid))
        for one in accounts.accounts:
            allowed = max(MOST_UNEXPLAINED, abs(one.change) // 100)
            assert abs(one.unexplained) <= allowed, one
        runner.stdin.write(b"\n")
    if said == bytes([UNSUPPORTED]):
        if name in CANNOT:
            return ()
        pytest.skip("this kernel or machine lacks what it needs")
    assert said == b"\0"
    return accounts.accounts


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_rows_add_up_in_every_workload(runner: subprocess.Popen[bytes], name: str) -> None:
    read_at_each_stop(runner, name)


# Whose memory changed by which cause, by one page for each of the region: at least, as often.
CAUSES = [
    ("fork-child-writes", "parent", Cause.SHARED_BY_FORK),
    ("fork-child-writes", "child", Cause.REPLACED),
    ("fork-child-writes", "parent", Cause.LEFT_ALONE),
    ("parent-after-child-exit", "parent", Cause.LEFT_ALONE),
    ("zero-page", "parent", Cause.ZERO_FILLED),
    ("private-file-first-write", "child", Cause.FROM_FILE),
    ("swapped-out", "parent", Cause.SWAPPED_OUT),
    ("swapped-out", "child", Cause.SWAPPED_IN),
    ("ksm-write", "parent", Cause.MERGED),
    ("exit-makes-exclusive", "parent", Cause.LEFT_ALONE),
    ("collapse-after-fork", "child", Cause.COLLAPSED),
    ("khugepaged-after-fork", "child", Cause.COLLAPSED),
]


@pytest.mark.spread("6.1")
@pytest.mark.parametrize(("name", "role", "cause"), CAUSES)
def test_each_cause_has_its_pages(
    runner: subprocess.Popen[bytes], name: str, role: str, cause: Cause
) -> None:
    parent, *others = read_at_each_stop(runner, name, often=True)
    chosen = [parent] if role == "parent" else others
    pages = max(account.bytes(cause) // PAGE_BYTES for account in chosen)
    least = 511 if cause is Cause.COLLAPSED else PAGES  # of 512, one was written before
    if cause is Cause.MERGED:  # one of 256 keeps its frame, and 6.12 does not tell that
        least -= -(-PAGES // 256)
    # Of the interpreter as well, which is shared with its parent and goes on.
    assert least <= pages <= least + STRAY_PAGES, chosen


# Its child copies COPIES pages of the memory that it shares; then both rest.
COPIES = 2003
COPIER = f"""
import mmap, os, sys, time
memory = mmap.mmap(-1, 2 * {COPIES} * {PAGE_BYTES}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(2 * {COPIES}):
    memory[page * {PAGE_BYTES}] = 1
time.sleep(float(sys.argv[1]))
if not os.fork():
    for page in range({COPIES}):
        memory[page * {PAGE_BYTES}] = 2
    time.sleep(2 * float(sys.argv[1]))
    os._exit(0)
os.wait()
"""


def copier() -> list[str]:
    """Both rest so long that they are read then, also on a busy machine or under emulation."""
    return [sys.executable, "-c", COPIER, "15" if IN_VM else "5"]


@pytest.mark.spread
def test_a_probe_tells_what_was_copied() -> None:
    shown = subprocess.run(
        [*COWTRACE, "private", "--json", "--interval", "0.1", "--", *copier()],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout.splitlines()[-1])
    parent, child = found["processes"]
    copied = COPIES * PAGE_BYTES
    assert copied <= child["copied_bytes"] <= child["traced_replaced_bytes"] + found["lost"]
    assert child["copied_bytes"] <= copied + STRAY_PAGES * PAGE_BYTES
    for process in (parent, child):
        allowed = max(MOST_UNEXPLAINED, abs(process["now_bytes"]) // 100) + process["moved_bytes"]
        assert abs(process["unexplained_bytes"]) <= allowed


@pytest.mark.spread
def test_a_recording_has_it(tmp_path: Path) -> None:
    file = tmp_path / "trace.cow"
    done = subprocess.run(
        [*COWTRACE, "record", "--private", "--interval", "0.2", "-o", file, "--", *copier()],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = subprocess.run(
        [*COWTRACE, "report", "--json", file], capture_output=True, text=True, timeout=PATIENCE
    )
    (answer,) = (each for each in json.loads(told.stdout)["answers"] if each["number"] == 11)
    values = {measure["name"]: measure["value"] for measure in answer["measures"]}
    assert values["+ copied when written"] >= COPIES * PAGE_BYTES
    assert values["- freed at its end"] >= COPIES * PAGE_BYTES
