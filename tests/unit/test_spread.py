"""`make test` spreads tests over its kernels: each of them still runs on one at least."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def collected(kernel: str, *options: str) -> set[str]:
    """What would run on that kernel of the VM."""
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
         "tests/system", "tests/applications", *options],
        cwd=ROOT, env=os.environ | {"COWTRACE_VM": "1", "COWTRACE_KERNEL": kernel},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {line for line in listed.stdout.splitlines() if "::" in line}


def test_each_test_of_the_vm_runs_on_one_of_the_kernels() -> None:
    (named,) = re.findall(r"^KERNELS \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    kernels = named.split()
    assert f'"{named}" ] || spread=--spread' in (ROOT / ".ci" / "test").read_text()
    spread = [collected(kernel, "--spread") for kernel in kernels]
    everything = collected("6.12")  # the one that breaks bpf/ in every way: see test_mutations.py
    assert set().union(*spread) == everything
