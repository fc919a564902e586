"""Run `cowtrace verify` on a live kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE
from workload_checks import IN_VM, plans

from cowtrace.verify import saved
from cowtrace.verify.check import Verdict, from_dict

pytestmark = [pytest.mark.host, pytest.mark.vm, pytest.mark.usefixtures("can_trace")]


def test_verify_checks_what_fork_does_on_this_kernel(tmp_path: Path) -> None:
    xml = tmp_path / "verify.xml"
    ended = subprocess.run(
        [*COWTRACE, "verify", "c1", "C6", "--json", "--junit", str(xml)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    checks = [from_dict(json.loads(line)) for line in ended.stdout.splitlines()]
    assert {check.group for check in checks} == {"C1", "C6"}
    assert {check.verdict for check in checks} == {Verdict.HOLDS}
    assert {check.kernel for check in checks} == {os.uname().release}
    oracles = {one.oracle for check in checks for one in check.evidence if one.ok}
    assert oracles >= {"pagemap", "rusage", "data"}
    assert all(check.findings for check in checks if check.group == "C6")
    assert len(list(ET.parse(xml).getroot().iter("testcase"))) == len(checks)


@pytest.mark.spread("5.10")
def test_an_interrupted_verify_ends_at_once_without_a_traceback() -> None:
    with subprocess.Popen(
        [*COWTRACE, "verify", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as verify:
        assert verify.stdout
        first = json.loads(verify.stdout.readline())
        assert first["group"] == "C1"
        verify.send_signal(signal.SIGINT)
        _, errors = verify.communicate(timeout=PATIENCE)
    assert verify.returncode == 130, errors
    assert "Traceback" not in errors


@pytest.mark.spread("6.12")
def test_every_plan_that_runs_here_sees_the_same(tmp_path: Path) -> None:
    file = tmp_path / "matrix.json"
    command = [*COWTRACE, "verify", "C4", "zero page", "--plans", "all", "--json"]
    command += ["--baseline", str(file)]
    for _ in range(2):  # the second run compares with the first
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        checks = [from_dict(json.loads(line)) for line in ended.stdout.splitlines()]
        assert {check.verdict for check in checks} == {Verdict.HOLDS}
        ran = {check.plan for check in checks}
        assert len(checks) == len(ran) * len({check.name for check in checks}) > 0
        assert not IN_VM or ran == {*plans()}
    (kernel,) = saved.read(str(file)) or ()
    assert {check.plan for check in kernel.checks} == ran
