"""CAP_BPF and CAP_PERFMON get the fentry plan, with exact counts, where only root gets kprobes.

Debian's kernel.perf_event_paranoid=3 refuses kprobes to everybody else.
"""

from __future__ import annotations

import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import PATIENCE, eventually
from nobody import PAGES, WORK, as_nobody, copies, page
from workload_checks import PRIME_PAGES, path_problems, unaccounted

from cowtrace import tracer
from cowtrace.kernel.facts import kernel_facts
from cowtrace.kernel.preemption import preemptible
from cowtrace.model import Snapshot
from cowtrace.workloads import run_forked
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("debians_settings")]

PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
RESTRICT = Path("/proc/sys/kernel/kptr_restrict")
# Takes a snapshot at each line of stdin.
TRACER = f"""
import pickle, sys
from cowtrace import tracer
with tracer.attach("auto", region=({REGION_START}, {REGION_END})) as live:
    for _ in sys.stdin:
        pickle.dump((live.probe_plan.blind_spots, live.snapshot()), sys.stdout.buffer)
        sys.stdout.flush()
"""
# As the unit has it: before 5.11, maps count as locked memory.
UNLIMITED = ["prlimit", "--memlock=unlimited"]
NAMES = (
    "fork-child-writes",
    "fork-both-write",
    "private-file-first-write",
    "remote-proc-mem",
    "huge-zero-page",
    "thp-child-writes",
    "hugetlb-both-write",
)


@pytest.fixture(scope="module")
def debians_settings() -> Iterator[None]:
    before = [(path, path.read_text()) for path in (PARANOID, RESTRICT)]
    PARANOID.write_text("3")
    RESTRICT.write_text("2")  # no address of a kernel function, not for root either
    yield
    for path, text in before:
        path.write_text(text)


@contextmanager
def tracer_of_nobody() -> Iterator[subprocess.Popen[bytes]]:
    command = UNLIMITED + as_nobody(start=TRACER)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        yield running
        assert running.stdin is not None
        running.stdin.close()


def snapshot(running: subprocess.Popen[bytes]) -> tuple[tuple[str, ...], Snapshot]:
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdin.write(b"\n")
    running.stdin.flush()
    try:
        found: tuple[tuple[str, ...], Snapshot] = pickle.load(running.stdout)
    except EOFError:
        pytest.fail(running.stderr.read().decode())
    return found


@pytest.mark.spread("6.12")
def test_counts_are_exact() -> None:
    with tracer_of_nobody() as running:
        spots, before = snapshot(running)
        assert before.plan == "fentry"
        unseen = " ".join(spots)
        # hugetlb_wp() of 6.1 has more arguments than its trampolines take, and a parameter of
        # do_huge_pmd_wp_page() of 5.10 is a struct, which they do not take.
        release = kernel_facts().release
        hugetlb = "copies of hugetlb pages are not seen" not in unseen
        assert hugetlb is not release.startswith("6.1.")
        whole = "transparent huge page as a whole" not in unseen
        assert whole is not release.startswith("5.10.")
        for name in NAMES:
            if not {"hugetlb-both-write": hugetlb, "huge-zero-page": whole}.get(name, True):
                continue
            outcome = run_forked(name, PRIME_PAGES)
            lost = before.completeness.lost
            _, before = snapshot(running)
            if preemptible():
                assert unaccounted(outcome, before) == [], name
            else:
                assert path_problems(outcome, before, lost) == [], name


@pytest.mark.spread("6.1", "6.12")  # Debian 12's and 13's: where it is installed by its unit
def test_the_exporter_takes_the_fentry_plan() -> None:
    with subprocess.Popen(
        UNLIMITED
        + as_nobody("export", "prometheus", "-v", "--listen", "127.0.0.1:0", "--interval", "0.5"),
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        said = ""
        for line in running.stderr:
            said += line
            if "://" in line:
                break
        url = next(word for word in said.split() if "://" in word)
        try:
            assert "attached the fentry plan" in said
            subprocess.run([sys.executable, "-c", WORK], check=True)
            assert eventually(lambda: copies(page(url)) >= PAGES), page(url)
            assert re.search(r"^cowtrace_kind_unseen.* 1", page(url), re.MULTILINE) is None
        finally:
            running.send_signal(signal.SIGTERM)
            errors = running.stderr.read()
            assert running.wait(PATIENCE) == 0, errors


def test_root_still_gets_kprobes_where_trampolines_cannot() -> None:
    with tracer.attach("fentry") as live:
        spots = live.probe_plan.blind_spots
    assert not any("huge" in spot and "not seen" in spot for spot in spots)
