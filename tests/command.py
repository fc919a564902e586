"""Run the command line as tests do, and list the BPF programs that the kernel has loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COWTRACE = [sys.executable, "-m", "cowtrace"]
PATIENCE = 300  # seconds: an emulated machine with other work to do takes a third of it


def programs() -> dict[int, dict[str, Any]]:
    """The BPF programs that are loaded, by their id."""
    listed = subprocess.run(
        ["bpftool", "prog", "show", "-j"], capture_output=True, check=True, timeout=PATIENCE
    )
    return {program["id"]: program for program in json.loads(listed.stdout)}


def asking_anew(folder: Path) -> dict[str, str]:
    """Environment of a command that asks the kernel for everything again.

    Compiled programs in that cache folder stay, since compiling
    takes long under emulation; answers of the kernel are removed.
    """
    for kept in folder.glob("cowtrace/programs/*"):
        if "programs" not in json.loads(kept.read_bytes().partition(b"\n")[2]):
            kept.unlink()
    return os.environ | {"XDG_CACHE_HOME": str(folder)}
