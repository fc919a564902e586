"""`cowtrace export prometheus` on this machine's kernel, scraped by Debian's Prometheus."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the extra cowtrace[prometheus] is not installed")

from prometheus_client.parser import text_string_to_metric_families

from cowtrace.kernel import preemption

pytestmark = pytest.mark.usefixtures("can_trace")

COWTRACE = [sys.executable, "-m", "cowtrace"]
PATIENCE = 120  # seconds
PAGES, CHILDREN = 23, 11
# The parent writes memory, forks; each child writes all of it, and lives until its stdin ends.
# An anonymous mapping of its own, so that nothing else is on its pages.
WORK = f"""
import ctypes, mmap, os, sys
ctypes.CDLL(None).prctl(15, b"{{name}}")
memory = mmap.mmap(-1, {PAGES} << 12, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
def write():
    for page in range({PAGES}):
        memory[page << 12] = 1
write()
ready, done = os.pipe()
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
            told = running.stderr.read()
            assert running.wait(PATIENCE) == 0, told
            assert "Traceback" not in told


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


def said(running: subprocess.Popen[str], word: str) -> None:
    assert running.stdout is not None
    assert running.stdout.readline() == f"{word}\n"


def go(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()


def eventually(what: Callable[[], Any], deadline_seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + deadline_seconds
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def test_counts_of_a_workload_and_they_stay_when_it_has_ended() -> None:
    quiet, busy = "cow-quiet", "cow-busy"
    with exported("--interval", "0.5") as url:
        copied: dict[str, float] = {}
        # What a fork and an exit of such a process copy besides is measured by one whose memory
        # is not written in the children.
        for name in (quiet, busy):
            with working(name) as running:
                said(running, "begin")
                time.sleep(0.6)
                before = total(url, "cowtrace_bytes_total", comm=name, kind="copied")
                if name == busy:
                    go(running)
                    said(running, "end")
                    time.sleep(0.6)
                after = total(url, "cowtrace_bytes_total", comm=name, kind="copied")
                copied[name] = after - before
        assert copied[quiet] == 0
        written = PAGES * CHILDREN * os.sysconf("SC_PAGE_SIZE")
        lost = total(url, "cowtrace_lost_faults_total")
        assert copied[busy] >= written - lost * os.sysconf("SC_PAGE_SIZE")
        time.sleep(1.2)  # its end, too, is counted
        held = total(url, "cowtrace_bytes_total", comm=busy, kind="copied")
        time.sleep(1.2)
        assert total(url, "cowtrace_bytes_total", comm=busy, kind="copied") == held >= written
        assert total(url, "process_resident_memory_bytes") > 0
        if not preemption.preemptible():
            assert lost == 0


def test_sums_are_those_of_another_trace_of_the_same() -> None:
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
            said(running, "begin")
            go(running)
            said(running, "end")
        time.sleep(1.5)
        top.send_signal(signal.SIGINT)
        lines = top.stdout.read().splitlines()
        told = json.loads(lines[-1])
        for kind in ("copied", "file-copied", "zero-filled"):
            field = kind.replace("-", "_")
            theirs = sum(each[field] for each in told["processes"])
            assert total(url, "cowtrace_faults_total", comm=name, kind=kind) == theirs
        assert total(url, "cowtrace_faults_total", comm=name, kind="copied") > PAGES * CHILDREN


def test_promtool_takes_the_metrics() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    with exported() as url:
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=page(url), capture_output=True, text=True
        )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_its_own_cost_is_told_while_the_kernel_measures_it() -> None:
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    if not switch.exists():
        pytest.skip("this kernel measures no BPF programs")
    before = switch.read_text()
    try:
        with exported() as url:
            switch.write_text("0")
            assert "cowtrace_bpf_runs_total" not in page(url)
            switch.write_text("1")
            subprocess.run(["true"], check=True)
            assert total(url, "cowtrace_bpf_runs_total") > 0
            assert 0 < total(url, "cowtrace_bpf_run_seconds_total") < 10
    finally:
        switch.write_text(before)


def test_a_real_prometheus_scrapes_it_and_its_rules(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed: apt install prometheus")
    rules = subprocess.run([*COWTRACE, "export", "rules"], capture_output=True, check=True).stdout
    (tmp_path / "rules.yml").write_bytes(rules)
    with exported("--interval", "0.5") as url:
        target = urllib.parse.urlsplit(url).netloc
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\n"
            "scrape_configs:\n- job_name: cowtrace\n"
            f"  static_configs: [{{targets: ['{target}']}}]\n"
        )
        with prometheus(tmp_path) as server:
            with working("cow-scraped") as running:
                said(running, "begin")
                go(running)
                said(running, "end")
            time.sleep(1.2)  # its end, too, is counted
            mine = "cowtrace_bytes_total{comm='cow-scraped', kind='copied', job='cowtrace'}"
            wanted = total(url, "cowtrace_bytes_total", comm="cow-scraped", kind="copied")
            assert wanted >= PAGES * CHILDREN * os.sysconf("SC_PAGE_SIZE")
            assert eventually(lambda: value(server, f"sum({mine})") == wanted)
            assert value(server, "up{job='cowtrace'}") == 1
            assert value(server, "cowtrace_build_info") == 1
            # A gap of some scrapes: what a rate is made of has not fallen.
            assert value(server, "sum(resets(cowtrace_bytes_total[5m]))") == 0
            found = json.loads(page(f"{server}/api/v1/rules"))["data"]["groups"]
            states = {rule["name"]: rule["health"] for group in found for rule in group["rules"]}
            assert eventually(
                lambda: all(
                    rule["health"] == "ok"
                    for group in json.loads(page(f"{server}/api/v1/rules"))["data"]["groups"]
                    for rule in group["rules"]
                )
            ), states


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A server with data of its own; yields its address."""
    log = folder / "log"
    with log.open("w") as errors:
        running = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             "--web.listen-address=127.0.0.1:0"],
            cwd=folder, stdout=errors, stderr=errors,
        )  # fmt: skip
    try:
        pattern = re.compile(r'Listening on"? address=(127\.0\.0\.1:\d+)')
        found = eventually(lambda: pattern.search(log.read_text()))
        assert found, log.read_text()
        server = f"http://{found[1]}"
        assert eventually(lambda: ready(server)), log.read_text()
        yield server
    finally:
        running.terminate()
        running.wait(PATIENCE)


def ready(server: str) -> bool:
    try:
        return "Ready" in page(f"{server}/-/ready")
    except OSError:
        return False


def value(server: str, query: str) -> float | None:
    """Of a query with one result."""
    told = json.loads(page(f"{server}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
    found = told["data"]["result"]
    return float(found[0]["value"][1]) if found else None
