"""Find out if threads can be preempted in the kernel, and so inside BPF programs.

`uname -v` names the preemption model. If it is chosen at boot, kernels before 6.15 name it only in
debugfs, which may not be readable. Then the code of cond_resched() shows the choice.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from cowtrace.kernel.kallsyms import symbols
from cowtrace.kernel.programs import RAW_TRACEPOINT, instruction, run_once, try_program

_PREEMPT = Path("/sys/kernel/debug/sched/preempt")
_NOT = ("none", "voluntary")
# x86: a jump to one of the other two, set by sched_dynamic_update() in kernel/sched/core.c.
_CALL, _TARGETS = "__SCT__cond_resched", ("__cond_resched", "__static_call_return0")
_JUMP_BYTES = 5
_PROBE_READ_KERNEL = 113


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
        target = jump + _JUMP_BYTES + _read_s32(jump + 1)
    except OSError:
        return False
    return target == addresses[_TARGETS[0]]


def _read_s32(address: int) -> int:
    """A number in kernel memory, read by a program that runs once."""
    code = (
        instruction(0xB7, to=1)  # r1 = 0
        + instruction(0x63, to=10, source=1, offset=-4)  # *(u32 *)(r10 - 4) = r1
        + instruction(0xBF, to=1, source=10)  # r1 = r10
        + instruction(0x07, to=1, immediate=-4)  # r1 += -4
        + instruction(0xB7, to=2, immediate=4)  # r2 = 4
        + instruction(0x18, to=3, immediate=address & 0xFFFFFFFF)  # r3 = address
        + instruction(0, immediate=address >> 32)
        + instruction(0x85, immediate=_PROBE_READ_KERNEL)
        + instruction(0x61, to=0, source=10, offset=-4)  # r0 = *(u32 *)(r10 - 4)
        + instruction(0x95)  # exit
    )
    program = try_program(RAW_TRACEPOINT, code)
    with closing(os.fdopen(program)):
        value = run_once(program)
    return value - (1 << 32) if value >> 31 else value
