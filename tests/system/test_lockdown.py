"""Kernel lockdown: counts that are right, or a clear refusal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE

from cowtrace.errors import EXIT_NO_PLAN

pytestmark = [pytest.mark.vm, pytest.mark.last]

LOCKDOWN = Path("/sys/kernel/security/lockdown")


@pytest.mark.parametrize("level", ["integrity", "confidentiality"])
def test_counts_are_right_or_tracing_is_refused(level: str) -> None:
    if not LOCKDOWN.exists():
        subprocess.run(["mount", "-t", "securityfs", "none", "/sys/kernel/security"], check=True)
    LOCKDOWN.write_text(level)
    assert f"[{level}]" in LOCKDOWN.read_text()
    ended = subprocess.run(
        [*COWTRACE, "workload", "fork-both-write", "--pages", "509", "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "Traceback" not in ended.stderr
    if ended.returncode == 0:
        assert json.loads(ended.stdout)["ok"] is True
        assert level == "integrity"  # beyond it, programs may not read the kernel's memory
    else:
        assert ended.returncode == EXIT_NO_PLAN, ended.stdout + ended.stderr
        assert "\nHint: " in ended.stderr
        doctor = subprocess.run(
            [*COWTRACE, "doctor"], capture_output=True, text=True, timeout=PATIENCE
        )
        assert level in doctor.stdout
