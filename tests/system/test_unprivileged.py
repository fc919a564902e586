"""Without root: a user with CAP_BPF and CAP_PERFMON, as the exporter's systemd unit gives them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from command import PATIENCE, eventually
from nobody import PAGES, WORK, as_nobody, copies, page

from cowtrace.errors import EXIT_NO_PLAN

pytestmark = pytest.mark.host

UNIT = resources.files("cowtrace.prometheus") / "cowtrace-exporter.service"
CAP_BPF = 1 << 39


@pytest.fixture(scope="module", autouse=True)
def can_be_another_user(can_trace: None) -> None:
    """Skips, with the reason, where another user cannot read what is tested, either."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed: apt install util-linux")
    imported = subprocess.run(as_nobody("--version"), capture_output=True, text=True)
    if imported.returncode:
        pytest.skip(f"user nobody cannot read the checkout or the Python: {imported.stderr[-200:]}")


def test_top() -> None:
    ended = subprocess.run(
        as_nobody("top", "--json", "0.5", "1"), capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["lost"] == 0


def test_the_doctor_reports_what_only_root_can_read() -> None:
    for capabilities in ("", ",+bpf,+perfmon"):
        ended = subprocess.run(
            as_nobody("doctor", "--json", capabilities=capabilities),
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert "Traceback" not in ended.stderr
        assert ended.returncode == (0 if capabilities else EXIT_NO_PLAN)
        found = {need["name"]: need["found"] for need in json.loads(ended.stdout)["requirements"]}
        assert found["privileges"] is bool(capabilities)
        assert not found["frame numbers"]


def test_the_exporter_counts_a_workload_of_another_user() -> None:
    pytest.importorskip("prometheus_client", reason="the extra cowtrace[prometheus] is missing")
    with subprocess.Popen(
        as_nobody("export", "prometheus", "--listen", "127.0.0.1:0", "--interval", "0.5"),
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        url = next((w for line in running.stderr for w in line.split() if "://" in w), None)
        try:
            assert url, "it did not start"
            status = Path(f"/proc/{running.pid}/status").read_text()
            # Both are given up once the probes are attached, but for CAP_BPF before 5.19.
            for name in ("CapPrm", "CapEff"):
                held = int(re.findall(rf"^{name}:\t(\w+)$", status, re.MULTILINE)[0], 16)
                assert held in (0, CAP_BPF)
            assert not re.search(r"^Uid:.*\b0\b", status, re.MULTILINE)
            subprocess.run([sys.executable, "-c", WORK], check=True)
            assert eventually(lambda: copies(page(url)) >= PAGES), page(url)
            assert "\ncowtrace_lost_faults_total 0.0\n" in page(url)
        finally:
            running.send_signal(signal.SIGTERM)
            errors = running.stderr.read()
            assert running.wait(PATIENCE) == 0, errors


def test_the_units_system_calls_are_enough(tmp_path: Path) -> None:
    """Compiled anew, under a filter of exactly the calls that systemd would allow."""
    pytest.importorskip("prometheus_client", reason="the extra cowtrace[prometheus] is missing")
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt install systemd")
    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.+)$", UNIT.read_text(), re.MULTILINE):
        names = {call for word in line.lstrip("~").split() for call in calls(word)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    confined = f"""
import os, sys
from cowtrace import sandbox
resolve = sandbox._libseccomp().seccomp_syscall_resolve_name
known = [name for name in {sorted(allowed)} if resolve(name.encode()) != -1]
sandbox.filter_calls(known, sandbox.ALLOW, otherwise=sandbox.fail(1))
os.execvp(sys.argv[1], sys.argv[1:])
"""
    nobody = as_nobody("export", "prometheus", "--listen", "127.0.0.1:0")
    at = nobody.index(sys.executable)
    with subprocess.Popen(
        [*nobody[:at], sys.executable, "-c", confined, *nobody[at:]],
        stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stderr is not None
        url = next((w for line in running.stderr for w in line.split() if "://" in w), None)
        running.send_signal(signal.SIGTERM)
        assert url, "it did not start"
        assert running.wait(PATIENCE) == 0


def calls(word: str) -> set[str]:
    """A system call, or those of one of systemd's groups."""
    if not word.startswith("@"):
        return {word}
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True
    )
    words = re.findall(r"^ +([@\w-]+)$", shown.stdout, re.MULTILINE)
    return {call for each in words for call in calls(each)}


def test_without_both_capabilities_it_is_refused_in_two_lines() -> None:
    for capabilities in ("", ",+bpf", ",+perfmon"):
        ended = subprocess.run(
            as_nobody("top", "1", "1", capabilities=capabilities), capture_output=True, text=True
        )
        assert ended.returncode == EXIT_NO_PLAN
        assert ended.stderr.splitlines() == [
            "cowtrace: loading BPF programs needs root, or CAP_BPF and CAP_PERFMON",
            "Hint: run it again with sudo",
        ]


def test_systemd_accepts_the_unit_and_rates_its_exposure_low(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt install systemd")
    # The program and its man page need not be installed for that.
    text = UNIT.read_text().replace("/usr/bin/cowtrace", "/bin/true")
    unit = tmp_path / "cowtrace-exporter.service"
    unit.write_text(re.sub(r"(?m)^Documentation=.*\n", "", text))
    checked = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=30", unit],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    if "unrecognized option" in scored.stderr:
        pytest.skip("this systemd scores no unit that is not installed")
    assert scored.returncode == 0, scored.stdout.splitlines()[-1]
    for line in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert f"\n{line}=CAP_BPF CAP_PERFMON\n" in text
