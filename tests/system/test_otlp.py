"""Send to a collector while a workload copies: it gets what `/proc` and the workload say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import COWTRACE, PATIENCE
from sources import writes

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("can_trace", "proto")]

PAGES = 509
NAME = "cow-otlp"
# Its child writes memory that was there before the fork, and copies it.
WORK = f"""
{writes(PAGES)}
import time
ctypes.CDLL(None).prctl(15, b"{NAME}")
print("begin", flush=True)
sys.stdin.readline()
child = os.fork()
if not child:
    write()
    time.sleep(float(sys.argv[1]))
    os._exit(0)
os.waitpid(child, 0)
print("end", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def proto() -> None:
    pytest.importorskip("opentelemetry.proto", reason="the extra cowtrace[otlp] is not installed")


@contextmanager
def exporting(url: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The exporter, once it has begun; Ctrl-C ends it."""
    with subprocess.Popen(
        [*COWTRACE, "export", "otlp", "--endpoint", url, "--comm", NAME, *arguments],
        stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    ) as running:  # fmt: skip
        assert running.stderr is not None
        seen = []
        for line in running.stderr:
            seen.append(line)
            if "sending to" in line:
                break
        try:
            yield running
        finally:
            running.send_signal(signal.SIGINT)
            errors = "".join(seen) + running.stderr.read()
            assert running.wait(PATIENCE) == 0, errors
            assert "Traceback" not in errors
            assert "were not sent" not in errors, errors


def worked(lingering: float = 0) -> None:
    """`lingering`: seconds for which the child lives after its copies."""
    with subprocess.Popen(
        [sys.executable, "-c", WORK, str(lingering)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stdout.readline() == "begin\n"
        running.stdin.write("\n")
        running.stdin.flush()
        assert running.stdout.readline() == "end\n"
        running.communicate("\n", timeout=PATIENCE)


def copied(collector: Any) -> int:
    """Bytes by the workload, of the last request."""
    points = collector.points()["cowtrace_bytes"]
    return sum(n for labels, n in points if labels["kind"] == "copied" and labels["comm"] == NAME)


def test_a_collector_gets_what_a_workload_copied() -> None:
    from collector import collecting, metrics_of

    page = os.sysconf("SC_PAGE_SIZE")
    with collecting() as collector:
        headers = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b"}
        with subprocess.Popen(
            [*COWTRACE, "top", "--json", "--comm", NAME, "0.5"], stdout=subprocess.PIPE, text=True
        ) as top:
            assert top.stdout is not None
            top.stdout.readline()
            # The interval never ends: what comes after the first is sent by Ctrl-C alone.
            with exporting(collector.url, "--interval", "3600", **headers):
                assert collector.wait("metrics", 1, PATIENCE)
                assert "cowtrace_bytes" not in collector.points()
                worked()
            top.send_signal(signal.SIGINT)  # it counts once more before it ends
            shown = json.loads(top.stdout.read().splitlines()[-1])
        assert len(collector.metrics) == 2
        sums = (each.sum for some in collector.metrics for each in metrics_of(some))
        points = [point for each in sums for point in each.data_points]
        assert len({point.start_time_unix_nano for point in points}) == 1
        theirs = sum(each["copied"] for each in shown["processes"]) * page
        lost = sum(n for _, n in collector.points()["cowtrace_lost_faults"])
        assert copied(collector) + lost * page >= PAGES * page
        if not lost and not shown["lost"]:
            assert copied(collector) == theirs
        assert all(each["api-key"] == "a b" for each in collector.headers)
        (info,) = collector.points()["cowtrace_build_info"]
        assert info[0]["kernel"] == os.uname().release


def test_stacks_are_sent_as_profiles() -> None:
    from collector import collecting, samples_of

    page = os.sysconf("SC_PAGE_SIZE")
    with collecting() as collector:
        # The interval never ends: looks within it name functions before their process has gone.
        with exporting(collector.url, "--stacks", "--interval", "3600"):
            assert collector.wait("metrics", 1, PATIENCE)
            worked(lingering=8)
        assert collector.profiles
        estimated = named = 0
        for request in collector.profiles:
            for names, attributes, value in samples_of(request)["copied_bytes"]:
                assert attributes["comm"] == NAME
                estimated += value
                named += value if set(names) - {"[unknown]"} else 0
        # Every copy is sampled while they are few.
        assert abs(estimated - copied(collector)) <= 0.2 * copied(collector)
        assert copied(collector) >= 0.9 * PAGES * page
        assert named >= 0.9 * estimated


def test_the_sender_has_no_privileges_and_no_probe() -> None:
    from collector import collecting

    with collecting() as collector, exporting(collector.url, "--interval", "0.5") as running:
        assert collector.wait("metrics", 2, PATIENCE)
        tasks = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        (sender,) = tasks
        status = Path(f"/proc/{sender}/status").read_text()
        for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1",
                     "Seccomp:\t2"):  # fmt: skip
            assert line in status
        links = [os.readlink(each) for each in Path(f"/proc/{sender}/fd").iterdir()]  # noqa: PTH115
        assert not [link for link in links if "bpf" in link or "perf" in link]
