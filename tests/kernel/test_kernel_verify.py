"""`cowtrace verify` as a command, on the VM's kernel: the claims about fork, as JSON."""

from __future__ import annotations

import json
import os
import subprocess

from command_tests import COWTRACE, PATIENCE

from cowtrace.verify.check import Verdict, from_dict


def test_verify_says_what_fork_does_on_this_kernel() -> None:
    ended = subprocess.run(
        [*COWTRACE, "verify", "c1", "C6", "--json"],
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
    assert oracles >= {"pagemap", "data"}
    assert all(check.findings for check in checks if check.group == "C6")


def test_an_unknown_claim_is_two_lines_and_no_trace() -> None:
    ended = subprocess.run(
        [*COWTRACE, "verify", "C9"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 2
