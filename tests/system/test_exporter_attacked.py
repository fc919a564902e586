"""Attack `cowtrace export prometheus` as an ordinary user can: by storms of forks, over HTTP."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra cowtrace[prometheus] is not installed")

from command import COWTRACE, PATIENCE, eventually
from sources import writes

from cowtrace.proc import descendants, runs
from system.test_exporter import PAGES, expect, exported, go, page, total, working

pytestmark = [
    pytest.mark.host,
    pytest.mark.alone,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread,
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
SECONDS = 10
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
        assert max(took) < PATIENT, sorted(took)[-9:]
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


@contextlib.contextmanager
def flooded(url: str, code: str, clients: int) -> Iterator[None]:
    """So many clients run this code for the block, and none may end before."""
    command = [sys.executable, "-c", code, *map(str, where(url))]
    with contextlib.ExitStack() as stack:
        flooding = [stack.enter_context(subprocess.Popen(command)) for _ in range(clients)]
        try:
            time.sleep(1)
            yield
            assert all(each.poll() is None for each in flooding), "no flood"
        finally:
            for each in flooding:
                each.kill()


def test_a_flood_of_connections_delays_no_scrape() -> None:
    with exported() as url:
        took = []
        with flooded(url, FLOOD, 2):
            for _ in range(20):
                with contextlib.suppress(OSError):
                    took.append(seconds_of_a_scrape(url))
                time.sleep(0.1)
        assert len(took) >= 19  # one may be lost on its way
        assert sorted(took)[-2] < 2 * PATIENT, took
        assert resident_bytes(url) < 200 << 20


# Sends wrong passwords, or handshakes, as fast as it can.
GUESSING = """
import base64, contextlib, socket, ssl, sys
context = ssl._create_unverified_context()
number = 0
while True:
    number += 1
    with contextlib.suppress(OSError):
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=9) as plain:
            with context.wrap_socket(plain) as asking:
                if number % 2:
                    given = base64.b64encode(b"ada:%d" % number).decode()
                    asking.sendall(b"GET / HTTP/1.1\\r\\nAuthorization: Basic ")
                    asking.sendall(given.encode() + b"\\r\\n\\r\\n")
                if number % 3:
                    asking.recv(99)
"""


def test_wrong_passwords_and_handshakes_delay_no_scrape(tmp_path: Path) -> None:
    bcrypt = pytest.importorskip("bcrypt", reason="the extra cowtrace[prometheus] is missing")
    pytest.importorskip("yaml", reason="the extra cowtrace[prometheus] is missing")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt install openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout",
         "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip

    def configure(password: str) -> None:
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode()
        (tmp_path / "web.new").write_text(
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
            f"basic_auth_users: {{ada: {hashed}}}\n"
        )
        (tmp_path / "web.new").replace(tmp_path / "web.yml")

    def scrape(password: str) -> int:
        given = base64.b64encode(f"ada:{password}".encode()).decode()
        asked = urllib.request.Request(url, headers={"Authorization": f"Basic {given}"})
        with contextlib.suppress(OSError):
            try:
                trusting = ssl._create_unverified_context()
                answer = urllib.request.urlopen(asked, timeout=PATIENCE, context=trusting)
                return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code
        return 0

    configure("before")
    with exported("--web-config", str(tmp_path / "web.yml")) as url:
        assert scrape("before") == 200
        took, answers = [], []
        with flooded(url, GUESSING, 3):
            for _ in range(20):
                began = time.monotonic()
                answers.append(scrape("before"))
                took.append(time.monotonic() - began)
        assert answers.count(200) >= 19, answers
        assert sorted(took)[-2] < PATIENT, took
        configure("after")  # read again without a restart
        assert eventually(lambda: scrape("after") == 200)
        assert scrape("before") == 401


def others(url: str) -> tuple[int, list[int]]:
    """The exporter that this test started, and its other processes: a parent, and the server."""
    found = descendants({os.getpid()})
    parents = {pid: parent(pid) for pid in found}
    (exporter,) = (pid for pid, above in parents.items() if above == os.getpid())
    (keeper,) = (pid for pid, above in parents.items() if above == exporter)
    return exporter, [keeper, *(pid for pid, above in parents.items() if above == keeper)]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.vm
def test_what_reads_requests_holds_no_privileges() -> None:
    with exported() as url:
        page(url)
        for pid in others(url)[1]:
            status = Path(f"/proc/{pid}/status").read_text()
            for field in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb"):
                assert f"\n{field}:\t{0:016x}\n" in status
            assert "\nNoNewPrivs:\t1\n" in status
            assert "\nSeccomp:\t2\n" in status
            opened = []
            for each in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    opened.append(str(each.readlink()))
            assert opened
            assert not any("bpf" in each for each in opened), opened


@pytest.mark.vm
def test_a_server_that_ends_is_started_again() -> None:
    with exported("--interval", "0.5") as url:
        page(url)
        server = others(url)[1][-1]
        os.kill(server, signal.SIGKILL)

        def scraped() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return "cowtrace_faults_total" in page(url)
            return False

        assert eventually(scraped)
        assert others(url)[1][-1] != server


def least_open(pid: int) -> int:
    """Descriptors, without those that it has open now and then."""
    counts = []
    for _ in range(23):
        counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        time.sleep(0.03)
    return min(counts)


@pytest.mark.vm
def test_a_server_that_hangs_does_not_hang_the_tracer() -> None:
    with exported("--interval", "0.1") as url:
        exporter, (*_, server) = others(url)
        os.kill(server, signal.SIGSTOP)
        try:
            time.sleep(2)  # more pages than wait for it
            opened = least_open(exporter)
            stopped = time.time()
            time.sleep(1)
            assert least_open(exporter) == opened
        finally:
            os.kill(server, signal.SIGCONT)
        assert eventually(lambda: total(url, "cowtrace_snapshot_timestamp_seconds") > stopped)


@pytest.mark.vm
def test_a_tracer_that_is_killed_leaves_no_server() -> None:
    command = [*COWTRACE, "export", "prometheus", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        url = next(word for line in running.stderr for word in line.split() if "://" in word)
        page(url)
        left = others(url)[1]
        running.kill()
        running.wait(PATIENCE)
        assert eventually(lambda: not any(runs(pid) for pid in left))


def test_another_site_cannot_read_the_metrics_by_a_browser() -> None:
    """DNS rebinding: its own name leads to 127.0.0.1."""
    with exported() as url:
        asked = urllib.request.Request(url, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=PATIENCE)
        assert refused.value.code == 421
        assert b"cowtrace_" not in refused.value.read()
