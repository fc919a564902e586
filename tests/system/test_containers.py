"""Trace processes in a PID namespace and a cgroup of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE, eventually
from writers import parent_of_writers

from cowtrace.cli import cgroups
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.recording.reader import read

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread,
]

PAGES = 509
# At each line of its input a child of it writes all its pages; it says their pids, as they know
# them themselves.
INSIDE = f"""
import mmap, os, signal, sys
memory = mmap.mmap(-1, {PAGES} * mmap.PAGESIZE, mmap.MAP_PRIVATE)
for at in range(0, len(memory), mmap.PAGESIZE):
    memory[at] = 1
print("ready", flush=True)
for line in sys.stdin:
    said, say = os.pipe()
    if os.fork() == 0:
        for at in range(0, len(memory), mmap.PAGESIZE):
            memory[at] = 2
        os.write(say, b"%d" % os.getpid())
        signal.pause()
    print(os.getpid(), os.read(said, 9).decode(), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Container:
    """A cgroup with a process in a PID namespace that runs INSIDE."""

    cgroup: str
    process: subprocess.Popen[str]
    folder: Path

    def fork(self) -> tuple[int, int]:
        """Let it fork; return the container PIDs of parent and child. The child has written."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        parent, child = self.process.stdout.readline().split()
        return int(parent), int(child)

    def pids(self) -> set[int]:
        """Host PIDs, as the kernel lists them for its cgroup."""
        return {int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()}


@pytest.fixture
def container() -> Iterator[Container]:
    root = cgroups._roots(Path("/proc/self/mountinfo").read_text())[0]
    folder = root / "cowtrace test [red]"
    folder.mkdir()
    enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    try:
        with subprocess.Popen(
            ["sh", "-c", enter, folder, *unshare, sys.executable, "-c", INSIDE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            try:
                yield Container(f"/{folder.name}", process, folder)
            finally:
                process.kill()  # and with it the namespace's first process, so all of it
    finally:
        _remove(folder)


def test_top_reports_container_pids_and_the_cgroup(container: Container) -> None:
    parent, child = container.fork()
    assert parent == 1
    shown = json.loads(_watched(container, "top", "--json"))
    there = {p["nspid"]: p for p in shown["processes"] if p["cgroup"] == container.cgroup}
    assert {p["pid"] for p in there.values()} <= container.pids()
    (copier,) = [p for p in there.values() if (p["copied"] or 0) >= PAGES]
    assert copier["nspid"] == child + 1
    assert {p["nspid"] for p in shown["processes"] if p["pid"] == os.getpid()} <= {os.getpid()}


def test_a_footer_maps_host_pids_to_container_pids(container: Container) -> None:
    for command in ("top", "forks", "maps"):
        shown = _watched(container, command, "--cgroup", container.cgroup)
        (line,) = [line for line in shown.splitlines() if container.cgroup in line]
        pairs = dict(pair.split("=") for pair in line.partition(": PID ")[2].split())
        assert {int(pid) for pid in pairs} <= container.pids()
        assert str(max(container.pids())) in pairs
        assert max(map(len, shown.splitlines())) <= 80


def test_a_recording_contains_pids_and_cgroup(container: Container, tmp_path: Path) -> None:
    file = tmp_path / "f"
    outside = container.pids()
    with subprocess.Popen(
        [*COWTRACE, "record", "-o", file, "--cgroup", container.cgroup, "--interval", "0.5"],
        stderr=subprocess.PIPE, text=True,
    ) as recorder:  # fmt: skip
        assert eventually(lambda: _intervals(file) or recorder.poll() is not None), "no interval"
        container.fork()
        (copier,) = container.pids() - outside
        with parent_of_writers() as write:
            stranger = write(23)
        recorder.send_signal(signal.SIGINT)
        _, errors = recorder.communicate(timeout=PATIENCE)
    assert recorder.returncode == 0, errors
    report = subprocess.run([*COWTRACE, "report", file, "--json"], capture_output=True, check=True)
    found = {each["pid"]: each for each in json.loads(report.stdout)["contained"]}
    assert found[copier]["cgroup"] == container.cgroup
    assert found[copier]["nspid"] == 2
    recorded = {process.pid for process in read(file).last.processes}
    assert copier in recorded
    assert recorded.isdisjoint({stranger, os.getpid()})


def test_inside_a_pid_namespace_it_is_refused() -> None:
    for command in (["top", "0.2", "1"], ["workload", "fork-child-writes"], ["run", "--", "true"]):
        ended = subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", *COWTRACE, *command],
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert ended.returncode == EXIT_NO_PLAN
        message = ended.stderr.splitlines()
        assert len(message) == 2
        assert "PID namespace" in message[0]
        assert "--pid=host" in message[1]


def test_sums_by_cgroup(container: Container) -> None:
    shown = json.loads(_watched(container, "top", "--by", "cgroup", "--json"))
    (row,) = [row for row in shown["cgroups"] if row["cgroup"] == container.cgroup]
    assert row["copied"] >= PAGES
    assert row["copied_bytes"] == row["copied"] * os.sysconf("SC_PAGESIZE")
    assert row["processes"] == 2


def _intervals(file: Path) -> int:
    """Number of intervals in a recording that is still written."""
    with suppress(CowtraceError):
        return len(read(file).times)
    return 0


def _watched(container: Container, *command: str) -> str:
    """The last output of a live view during which the container forked once."""
    with subprocess.Popen(
        [*COWTRACE, *command, "0.5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as view:
        assert view.stdout
        first = view.stdout.readline()  # attached by now
        assert first, view.stderr and view.stderr.read()
        container.fork()
        view.send_signal(signal.SIGINT)  # it shows once more what it has counted
        rest, errors = view.communicate(timeout=PATIENCE)
    assert view.returncode == 0, errors
    return rest.rstrip().split("\n" if "--json" in command else "\n\n")[-1]


def _remove(folder: Path) -> None:
    """Remove a cgroup; while a process leaves it, it is busy."""
    for _ in range(100):
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.05)
    folder.rmdir()
