"""Run the command line as tests do, and list the BPF programs that the kernel has loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

COWTRACE = [sys.executable, "-m", "cowtrace"]
PATIENCE = 300  # seconds: an emulated machine with other work to do takes a third of it


def programs() -> dict[int, dict[str, Any]]:
    """The BPF programs that are loaded, by their id."""
    listed = subprocess.run(
        ["bpftool", "prog", "show", "-j"], capture_output=True, check=True, timeout=PATIENCE
    )
    return {program["id"]: program for program in json.loads(listed.stdout)}
