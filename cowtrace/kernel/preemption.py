"""Find out if threads can be preempted in the kernel, and so inside BPF programs.

`uname -v` names the preemption model. If it is chosen at boot, kernels before 6.15 name it only in
debugfs, which may not be readable. Then the code of cond_resched() shows the choice.
"""

from __future__ import annotations

import os
from pathlib import Path

from cowtrace.kernel.kallsyms import symbols
from cowtrace.kernel.kernel_memory import read_u32

_PREEMPT = Path("/sys/kernel/debug/sched/preempt")
_NOT = ("none", "voluntary")
# x86: a jump to one of the other two, set by sched_dynamic_update() in kernel/sched/core.c.
_CALL, _TARGETS = "__SCT__cond_resched", ("__cond_resched", "__static_call_return0")
_JUMP_BYTES = 5


def preemptible(version: str | None = None, preempt: Path = _PREEMPT) -> bool:
    """True also if it cannot be found out."""
    words = (os.uname().version if version is None else version).split()
    model = next((word for word in words if word.startswith("PREEMPT")), None)
    if model in (None, "PREEMPT(none)", "PREEMPT(voluntary)"):
        return False
    if model != "PREEMPT_DYNAMIC":
        return True
    try:
        return preempt.read_text().partition("(")[2].partition(")")[0] not in _NOT
    except OSError:
        return not _cond_resched_reschedules(symbols((_CALL, *_TARGETS)))


def real_time(version: str | None = None) -> bool:
    """True if a spinlock's holder can be preempted: CONFIG_PREEMPT_RT."""
    return "PREEMPT_RT" in (os.uname().version if version is None else version).split()


def _cond_resched_reschedules(addresses: dict[str, int]) -> bool:
    """True if cond_resched() reschedules: only on kernels that do not preempt threads otherwise."""
    if not all(addresses.values()) or len(addresses) < 3:
        return False
    jump = addresses[_CALL]
    try:
        distance = read_u32(jump + 1)
    except OSError:
        return False
    distance -= distance >> 31 << 32  # signed
    return jump + _JUMP_BYTES + distance == addresses[_TARGETS[0]]
