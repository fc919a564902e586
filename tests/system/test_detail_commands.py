"""Run forks, maps, latency and snoop around one workload."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command import COWTRACE, PATIENCE, eventually

from cowtrace.errors import EXIT_NO_PLAN
from cowtrace.workloads import run
from cowtrace.workloads.outcome import Outcome
from cowtrace.workloads.region import REGION_START

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread,
]

PAGES = 1009
STRAY_PAGES = 900  # of the interpreter, on both sides of a fork
COMMANDS = {
    "forks": ("--json", "0.5"),
    "maps": ("--json", "0.5"),
    "latency": ("--json", "0.5"),
    # Not of the whole system: elsewhere, millions of faults a second may be dropped.
    "snoop": ("--json", "--follow", "-p", str(os.getpid())),
}


@dataclass(frozen=True)
class Seen:
    """Output of the commands while fork-both-write ran once."""

    outcome: Outcome
    lines: dict[str, list[dict[str, Any]]]  # by command
    errors: dict[str, str]
    codes: dict[str, int]

    @property
    def parent(self) -> int:
        return self.outcome.processes[0].pid

    @property
    def child(self) -> int:
        return self.outcome.processes[1].pid

    @property
    def counts_spurious_faults(self) -> bool:
        """As re-marks: the tracepoint plan without a page table, before 6.1."""
        return "shared" in self.lines["forks"][-1]["unseen"]

    def addresses(self, pid: int, kind: str) -> list[int]:
        """Of the pages that snoop shows, in the region that fork-both-write writes; sorted."""
        page = self.outcome.page_bytes
        pages = (
            line["address"] & -page
            for line in self.lines["snoop"]
            if line.get("pid") == pid and line["kind"] == kind
        )
        return sorted(at for at in pages if 0 <= at - REGION_START < PAGES * page)

    def losses(self, name: str) -> dict[str, Any]:
        """For the message of a failed test: what the command itself reports as lost."""
        last = self.lines[name][-1]
        return {key: last[key] for key in ("plan", "lost_by_cause", "unclassified")}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """All commands run at once, so that they see the same faults."""
    folder = tmp_path_factory.mktemp("output")
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(started(folder, name, *arguments))
            for name, arguments in COMMANDS.items()
        }
        for name, process in running.items():
            # A line: it is attached.
            out = folder / name
            assert eventually(partial(begun, process, out)), f"{name} does not begin"
        outcome = run("fork-both-write", PAGES)
        for process in running.values():
            process.send_signal(signal.SIGINT)
        codes = {name: process.wait(timeout=PATIENCE) for name, process in running.items()}
    errors = {name: (folder / f"{name}.err").read_text() for name in running}
    assert set(codes.values()) <= {0, EXIT_NO_PLAN}, (codes, errors)
    lines = {
        name: [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in running
    }
    return Seen(outcome, lines, errors, codes)


def begun(process: subprocess.Popen[bytes], out: Path) -> bool:
    """Whether it has written something, or ended. Forks a shell, whose faults snoop shows."""
    subprocess.run(["sh", "-c", "(:); :"], check=True)
    return process.poll() is not None or out.stat().st_size > 0


def started(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command that writes to files, so that none waits for a reader."""
    with (folder / name).open("w") as out, (folder / f"{name}.err").open("w") as errors:
        return subprocess.Popen([*COWTRACE, name, *arguments], stdout=out, stderr=errors)


def test_forks_attributes_the_childs_copies_to_its_fork(seen: Seen) -> None:
    assert seen.codes["forks"] == 0
    last = seen.lines["forks"][-1]
    (fork,) = (g for g in last["generations"] if g["child"] == seen.child)
    page = seen.outcome.page_bytes
    assert fork["parent"] == seen.parent
    assert fork["ended_by"] == "exit"
    assert fork["trend"] == "ended"
    assert fork["worst_case_bytes"] == 0
    assert PAGES <= fork["child_copied_bytes"] // page < PAGES + STRAY_PAGES, fork
    assert fork["parent_copied_bytes"] // page < STRAY_PAGES  # it wrote last: re-marked
    assert fork["shareable_bytes"] // page >= PAGES


def test_maps_counts_every_page_of_the_mapping(seen: Seen) -> None:
    if seen.codes["maps"] == EXIT_NO_PLAN:
        assert "cannot attribute faults to mappings" in seen.errors["maps"]
        return
    found = {
        row["pid"]: row
        for row in seen.lines["maps"][-1]["mappings"]
        if row["start"] == REGION_START and row["pid"] in (seen.parent, seen.child)
    }
    assert seen.child in found, (seen.losses("maps"), seen.lines["maps"][-1]["mappings"][:9])
    assert found[seen.child]["copied"] == PAGES, seen.losses("maps")
    assert found[seen.child]["reused"] == 0  # by no plan a copy and a re-mark as well
    assert found[seen.child]["copied_bytes"] == PAGES * seen.outcome.page_bytes
    assert found[seen.child]["mapped_bytes"] == PAGES * seen.outcome.page_bytes
    assert found[seen.child]["segment"] == "rw-p"
    assert found[seen.child]["exited"] is True
    assert found[seen.parent]["copied"] == 0
    # To snoop as well.
    shown = len(seen.addresses(seen.parent, "reused")) if seen.counts_spurious_faults else PAGES
    assert found[seen.parent]["reused"] == shown


def test_latency_times_each_side_or_is_refused(seen: Seen) -> None:
    if seen.codes["latency"] == EXIT_NO_PLAN:
        first, second = seen.errors["latency"].splitlines()[-2:]
        assert first.endswith("plan cannot time faults on this kernel")
        assert second.startswith("Hint: ")
        return
    found = {(t["kind"], t["side"]): t for t in seen.lines["latency"][-1]["latency"]}
    for key in (("copied", "child"), ("reused", "parent")):
        timing = found[key]
        assert timing["faults"] >= PAGES
        assert timing["faults"] == sum(timing["buckets"].values())
        least = sum(faults << int(bucket) for bucket, faults in timing["buckets"].items())
        assert least <= timing["ns"] < 2 * least


def test_snoop_shows_each_fault_once(seen: Seen) -> None:
    assert seen.codes["snoop"] == 0
    assert "Traceback" not in seen.errors["snoop"]
    if any("dropped" in line for line in seen.lines["snoop"]):
        pytest.fail(f"dropped: {seen.errors['snoop']}")
    page = seen.outcome.page_bytes
    region = range(REGION_START, REGION_START + PAGES * page, page)
    for pid, kind in ((seen.child, "copied"), (seen.parent, "reused")):
        addresses = seen.addresses(pid, kind)
        if kind == "reused" and seen.counts_spurious_faults:
            addresses = sorted(set(addresses))  # without spurious faults
        missing = [hex(address) for address in sorted(set(region) - set(addresses))]
        assert addresses == list(region), f"{kind}: without {missing}; {seen.losses('maps')}"
