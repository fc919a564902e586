"""Run the command line as tests do, wait for conditions, list the BPF programs that are loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

COWTRACE = [sys.executable, "-m", "cowtrace"]
PROGRESS = "cowtrace: compiling and attaching the probes"  # where that takes more than 2 s
Answer = TypeVar("Answer")
PATIENCE = 300  # seconds: an emulated machine with other work to do takes a third of it


def eventually(condition: Callable[[], Answer]) -> Answer:
    """Ask until the answer is true, or PATIENCE ends; return the last answer."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def programs() -> dict[int, dict[str, Any]]:
    """The BPF programs that are loaded, by their id."""
    listed = subprocess.run(
        ["bpftool", "prog", "show", "-j"], capture_output=True, check=True, timeout=PATIENCE
    )
    return {program["id"]: program for program in json.loads(listed.stdout)}


def programs_of(pid: int) -> set[int]:
    """IDs of the BPF programs that a process holds."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").glob("*"):
        try:
            lines = info.read_text().splitlines()
        except OSError:  # closed meanwhile
            continue
        found |= {int(line.split()[1]) for line in lines if line.startswith("prog_id:")}
    return found


def is_confined(pid: int) -> bool:
    """Whether a command has attached its probes: then it gives up its privileges."""
    return "\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()


def asking_anew(folder: Path) -> dict[str, str]:
    """Environment of a command that asks the kernel for everything again.

    Compiled programs in that cache folder stay, since compiling takes long under emulation; answers
    of the kernel are removed, and what is damaged.
    """
    for kept in folder.glob("cowtrace/programs/*"):
        if not _has_programs(kept.read_bytes().partition(b"\n")[2]):
            kept.unlink()
    return os.environ | {"XDG_CACHE_HOME": str(folder)}


def _has_programs(data: bytes) -> bool:
    try:
        return "programs" in json.loads(data)
    except ValueError:
        return False
