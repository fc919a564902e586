"""The kernel's own tests of copy-on-write pass while they are traced; counts equal taskstats'.

`make selftests` builds them from the kernel's source, and runs this in the VM; with KERNEL=host, on
this machine, by the plan that runs here.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from workload_checks import IN_VM, attached

from cowtrace import tracer
from cowtrace.model import Origin, Snapshot
from cowtrace.tracer.filter import Filter
from cowtrace.workloads import settings
from cowtrace.workloads.evidence import is_wp_copy
from cowtrace.workloads.oracles.taskstats import ended_threads

FOLDER = Path(__file__).parent / "built"
HUGE_PAGES = "/proc/sys/vm/nr_hugepages"
SWAP_BYTES = 64 << 20
SKIPPED = 4  # KSFT_SKIP
RESULT = re.compile(r"^(ok|not ok) \d+ (.*)$", re.MULTILINE)
OURS = Filter(pids=(os.getpid(),), follow=True)


@pytest.fixture(autouse=True)
def _what_they_need(huge_pages: int) -> Iterator[None]:
    with (
        settings.delay_accounting(),
        settings.changed({HUGE_PAGES: str(huge_pages)}),
        settings.swap(SWAP_BYTES),
    ):
        yield


@pytest.mark.parametrize("huge_pages", [0, 64])
@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*")))
def test_it_passes_as_without_and_its_copies_are_counted(
    name: str, huge_pages: int, tmp_path: Path
) -> None:
    alone = results(name, tmp_path)
    if alone[f"exit code {SKIPPED}"]:
        pytest.skip("this kernel lacks what it tests")
    assert alone["ok"], alone
    with ExitStack() as stack:
        tracers = (
            attached(stack, only=OURS)
            if IN_VM
            else {"": stack.enter_context(tracer.attach("auto", only=OURS))}
        )
        ended = stack.enter_context(ended_threads())
        traced = results(name, tmp_path)
        counted = ended()
        seen = {plan: live.snapshot() for plan, live in tracers.items()}
    assert traced == alone
    wrong, all_copies = [], set()
    for plan, snapshot in seen.items():
        # Others, such as the compiler, ended before it ran.
        ours = {process.pid for process in snapshot.processes} & {each.tgid for each in counted}
        kernels = sum(thread.wp_copies for thread in counted if thread.tgid in ours)
        copies = write_protect_copies(snapshot, ours)
        print(f"{name}, {plan}: {copies} copies, {kernels} by taskstats, {dict(traced)}")
        assert snapshot.completeness.lost == 0, snapshot.completeness
        if snapshot.plan == "tracepoint":  # what it cannot see lies between two bounds
            hidden = snapshot.in_system_calls
            if not copies <= kernels <= copies + sum(hidden or ()):
                wrong.append(plan)
            continue
        # taskstats counts a first touch of hugetlb memory, too: it goes through hugetlb_wp().
        if copies > kernels or (copies < kernels and not huge_pages):
            wrong.append(plan)
            print(kinds(snapshot, ours))
        all_copies.add(copies)
    assert wrong == []
    assert len(all_copies) <= 1, "the plans differ"


def kinds(snapshot: Snapshot, pids: set[int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for process in snapshot.processes:
        for row in process.rows if process.pid in pids else ():
            found[f"{row.kind.label} {row.source.name} {row.origin.name}"] += row.faults
    return found


def results(name: str, folder: Path) -> Counter[str]:
    """How often a test of the program ended in which way: its lines of TAP."""
    ran = subprocess.run([FOLDER / name], cwd=folder, capture_output=True, text=True)
    lines = RESULT.findall(ran.stdout)
    found = Counter("skipped" if "# SKIP" in rest else word for word, rest in lines)
    return found + Counter({f"exit code {ran.returncode}": 1})


def write_protect_copies(snapshot: Snapshot, pids: set[int]) -> int:
    """What taskstats calls write-protect copies."""
    return sum(
        row.faults
        for process in snapshot.processes
        if process.pid in pids
        for row in process.rows
        if row.origin is not Origin.FORK and is_wp_copy(row.kind, row.source)
    )
