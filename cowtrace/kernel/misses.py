"""How often the kernel did not run a BPF program, for it was running on that CPU already.

On a preemptible kernel a thread can be preempted inside a program; meanwhile the program does
not run for other threads on that CPU. Kprobes run with preemption off and know no such loss.
"""

from __future__ import annotations

import os
from pathlib import Path

from cowtrace.kernel.btf import Btf
from cowtrace.kernel.statistics import program_info

_PREEMPT = Path("/sys/kernel/debug/sched/preempt")


def misses(btf: Btf, program_fd: int) -> int:
    """Calls of one program that were passed over; 0 where the kernel does not count them (5.10)."""
    return program_info(btf, program_fd, "recursion_misses") or 0


def preemptible(version: str | None = None, preempt: Path = _PREEMPT) -> bool:
    """Whether a thread can be preempted in the kernel; True when that cannot be found out.

    `uname -v` names the model; where it is chosen at boot, older kernels name it in debugfs only.
    """
    words = (os.uname().version if version is None else version).split()
    model = next((word for word in words if word.startswith("PREEMPT")), None)
    if model in (None, "PREEMPT(none)", "PREEMPT(voluntary)"):
        return False
    if model != "PREEMPT_DYNAMIC":
        return True
    try:
        chosen = preempt.read_text().partition("(")[2].partition(")")[0]
    except OSError:
        return True
    return chosen not in ("none", "voluntary")
