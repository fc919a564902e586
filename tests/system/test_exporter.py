"""Read `cowtrace export prometheus` over HTTP."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra cowtrace[prometheus] is not installed")

from command import COWTRACE, PATIENCE, eventually
from prometheus_client.parser import text_string_to_metric_families
from sources import writes

from cowtrace.kernel import preemption

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread,
]

PAGES, CHILDREN = 23, 11
MARKS = itertools.count()
# The parent writes memory, forks; each child writes all of it, and lives until its stdin ends.
WORK = f"""
{writes(PAGES)}
ctypes.CDLL(None).prctl(15, b"{{name}}")
print("begin", flush=True)
sys.stdin.readline()
for _ in range({CHILDREN}):
    child = os.fork()
    if not child:
        write()
        os._exit(0)
    os.waitpid(child, 0)
print("end", flush=True)
sys.stdin.readline()
"""


@contextmanager
def exported(*arguments: str) -> Iterator[str]:
    """The exporter, at a port of its own; yields its address."""
    with subprocess.Popen(
        [*COWTRACE, "export", "prometheus", "--listen", "127.0.0.1:0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        try:
            url = next((w for line in running.stderr for w in line.split() if "://" in w), None)
            assert url, "it did not start"
            yield url
        finally:
            running.send_signal(signal.SIGTERM)
            errors = running.stderr.read()
            assert running.wait(PATIENCE) == 0, errors
            assert "Traceback" not in errors


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def total(url: str, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(page(url))  # type: ignore[no-untyped-call]
    found: float = sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
    return found


@contextmanager
def working(name: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WORK.replace("{name}", name)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        yield running
        running.communicate("\n\n", timeout=PATIENCE)


def expect(running: subprocess.Popen[str], word: str) -> None:
    assert running.stdout is not None
    assert running.stdout.readline() == f"{word}\n"


def go(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()


def wait_until_refreshed(url: str) -> None:
    """Until the page has what happened so far: a process that ends now is counted on it."""
    name = f"cow-mark-{next(MARKS)}"
    with working(name) as running:
        expect(running, "begin")
        go(running)
        expect(running, "end")
    assert eventually(lambda: total(url, "cowtrace_bytes_total", comm=name, kind="copied") > 0)


def test_counts_of_a_workload_stay_after_its_end() -> None:
    quiet, busy = "cow-quiet", "cow-busy"
    with exported("--interval", "0.5") as url:
        copied: dict[str, float] = {}
        # What a fork and an exit of such a process copy besides is measured by one whose memory
        # is not written in the children.
        for name in (quiet, busy):
            with working(name) as running:
                expect(running, "begin")
                wait_until_refreshed(url)
                before = total(url, "cowtrace_bytes_total", comm=name, kind="copied")
                if name == busy:
                    go(running)
                    expect(running, "end")
                    wait_until_refreshed(url)
                after = total(url, "cowtrace_bytes_total", comm=name, kind="copied")
                copied[name] = after - before
        assert copied[quiet] == 0
        written = PAGES * CHILDREN * os.sysconf("SC_PAGE_SIZE")
        lost = total(url, "cowtrace_lost_faults_total")
        assert copied[busy] >= written - lost * os.sysconf("SC_PAGE_SIZE")
        wait_until_refreshed(url)  # its end, too, is counted
        held = total(url, "cowtrace_bytes_total", comm=busy, kind="copied")
        wait_until_refreshed(url)
        assert total(url, "cowtrace_bytes_total", comm=busy, kind="copied") == held >= written
        assert total(url, "process_resident_memory_bytes") > 0
        if not preemption.preemptible():
            assert lost == 0


def test_sums_equal_those_of_top() -> None:
    """Faults by kind, of processes of one name, exactly as `cowtrace top --json` has them."""
    name = "cow-both"
    with (
        exported("--comm", name, "--interval", "0.5") as url,
        subprocess.Popen(
            [*COWTRACE, "top", "--json", "--comm", name, "0.5"], stdout=subprocess.PIPE, text=True
        ) as top,
    ):
        assert top.stdout is not None
        top.stdout.readline()
        with working(name) as running:
            expect(running, "begin")
            go(running)
            expect(running, "end")
        top.send_signal(signal.SIGINT)  # it counts once more before it ends
        lines = top.stdout.read().splitlines()
        shown = json.loads(lines[-1])
        theirs = {
            kind: sum(each[kind.replace("-", "_")] for each in shown["processes"])
            for kind in ("copied", "file-copied", "zero-filled")
        }

        def ours() -> dict[str, float]:
            labels = ({"comm": name, "kind": kind} for kind in theirs)
            return {each["kind"]: total(url, "cowtrace_faults_total", **each) for each in labels}

        assert eventually(lambda: ours() == theirs), (ours(), theirs)
        assert ours()["copied"] > PAGES * CHILDREN


def test_it_exports_its_own_cost_while_the_kernel_measures_it() -> None:
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    if not switch.exists():
        pytest.skip("this kernel measures no BPF programs")
    before = switch.read_text()
    try:
        with exported("--interval", "0.2") as url:
            switch.write_text("0")
            assert eventually(lambda: "cowtrace_bpf_runs_total" not in page(url))
            switch.write_text("1")
            subprocess.run(["true"], check=True)
            assert eventually(lambda: total(url, "cowtrace_bpf_runs_total") > 0)
            assert 0 < total(url, "cowtrace_bpf_run_seconds_total") < 10
    finally:
        switch.write_text(before)
