"""Attack `cowtrace export prometheus` as an ordinary user can: by storms of forks, over HTTP."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

pytest.importorskip("prometheus_client", reason="the extra cowtrace[prometheus] is not installed")

from command import PATIENCE, eventually
from sources import writes

from system.test_exporter import PAGES, expect, exported, go, page, total, working

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread("6.12"),
]

# Forks without end; each child takes a name that nobody has had, writes memory, and ends. Says
# how many there were when its stdin ends.
STORM = f"""
{writes(7)}
import select
name, forks = ctypes.CDLL(None).prctl, 0
while not select.select([sys.stdin], [], [], 0)[0]:
    child = os.fork()
    forks += 1
    if not child:
        name(15, b"%x.%x" % (os.getppid(), forks))
        write()
        os._exit(0)
    if not forks % 31:
        with __import__("contextlib").suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
print(forks)
"""
SECONDS = 20
PATIENT = 10 if os.environ.get("COWTRACE_VM") else 1  # an emulated machine is that much slower


@contextlib.contextmanager
def storm() -> Iterator[list[int]]:
    """From two processes; yields a list that has the number of forks afterwards."""
    forks: list[int] = []
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", STORM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        yield forks
        forks += [int(each.communicate("", timeout=PATIENCE)[0]) for each in running]


def seconds_of_a_scrape(url: str) -> float:
    began = time.monotonic()
    page(url)
    return time.monotonic() - began


def bounded(url: str) -> bool:
    samples = [line for line in page(url).splitlines() if line.startswith("cowtrace_faults_total")]
    names = {line.partition('comm="')[2].partition('"')[0] for line in samples}
    return len(names) <= 100 + 2


@pytest.mark.parametrize("groups", ["100", "10000"])
def test_a_storm_of_names_delays_no_scrape(groups: str) -> None:
    name = "cow-in-storm"
    with exported("--groups", groups, "--interval", "1") as url:
        with storm() as forks, working(name) as running:
            expect(running, "begin")
            took = []
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                took.append(seconds_of_a_scrape(url))
                time.sleep(0.2)
            go(running)
            expect(running, "end")
        assert sum(forks) > 23 * SECONDS, "no storm"
        assert sorted(took)[-2] < PATIENT, sorted(took)[-9:]
        assert max(took) < 3 * PATIENT
        read = total(url, "cowtrace_snapshot_timestamp_seconds")
        assert eventually(lambda: total(url, "cowtrace_snapshot_timestamp_seconds") > read)
        # What faults much has a label of its own, whatever storms.
        copied = {"comm": name, "kind": "copied"}
        assert eventually(lambda: total(url, "cowtrace_faults_total", **copied) >= PAGES)
        assert groups != "100" or bounded(url)
        assert resident_bytes(url) < 200 << 20


def resident_bytes(url: str) -> float:
    return total(url, "process_resident_memory_bytes")


def where(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


def test_silent_clients_delay_no_scrape() -> None:
    """More of them than there is room for, before and while others come."""
    with exported() as url, contextlib.ExitStack() as stack:
        for number in range(300):
            silent = stack.enter_context(socket.create_connection(where(url), timeout=PATIENCE))
            silent.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"[: number % 40])
            if not number % 50:
                assert seconds_of_a_scrape(url) < PATIENT
        assert max(seconds_of_a_scrape(url) for _ in range(10)) < PATIENT


# Connects and asks nothing, without end, and never reads.
FLOOD = """
import socket, sys
held = []
while True:
    try:
        held.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=9))
        held[-1].sendall(b"GET /metrics HTTP/1.1\\r\\n\\r\\n"[:len(held) % 30])
    except OSError:
        pass
    del held[:-500]
"""


def test_a_flood_of_connections_delays_no_scrape() -> None:
    with exported() as url, contextlib.ExitStack() as stack:
        flooding = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", FLOOD, *map(str, where(url))])
            )
            for _ in range(2)
        ]
        try:
            time.sleep(1)
            took = []
            for _ in range(20):
                with contextlib.suppress(OSError):
                    took.append(seconds_of_a_scrape(url))
                time.sleep(0.1)
        finally:
            for each in flooding:
                each.kill()
        assert len(took) >= 19  # one may be lost on its way
        assert sorted(took)[-2] < 2 * PATIENT, took
        assert resident_bytes(url) < 200 << 20


def test_another_site_cannot_read_the_metrics_by_a_browser() -> None:
    """DNS rebinding: its own name leads to 127.0.0.1."""
    with exported() as url:
        asked = urllib.request.Request(url, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=PATIENCE)
        assert refused.value.code == 421
        assert b"cowtrace_" not in refused.value.read()
