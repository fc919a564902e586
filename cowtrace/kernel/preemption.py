"""Can a thread be preempted in the kernel, so inside a BPF program?

`uname -v` names the model. Where it is chosen at boot, kernels before 6.15 name it in debugfs
only, which may be out of reach: then it is seen by what the choice has made of cond_resched().
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from cowtrace.kernel.kallsyms import symbols
from cowtrace.kernel.programs import RAW_TRACEPOINT, instruction, run_once, try_program

_PREEMPT = Path("/sys/kernel/debug/sched/preempt")
_NOT = ("none", "voluntary")
# x86: a jump to one of the two, as sched_dynamic_update() in kernel/sched/core.c has set it.
_CALL, _RESCHEDULES, _DOES_NOTHING = (
    "__SCT__cond_resched",
    "__cond_resched",
    "__static_call_return0",
)
_JUMP_BYTES = 5
_PROBE_READ_KERNEL = 113


def preemptible(version: str | None = None, preempt: Path = _PREEMPT) -> bool:
    """True also when that cannot be found out."""
    words = (os.uname().version if version is None else version).split()
    model = next((word for word in words if word.startswith("PREEMPT")), None)
    if model in (None, "PREEMPT(none)", "PREEMPT(voluntary)"):
        return False
    if model != "PREEMPT_DYNAMIC":
        return True
    try:
        return preempt.read_text().partition("(")[2].partition(")")[0] not in _NOT
    except OSError:
        return not _threads_offer_the_cpu(symbols((_CALL, _RESCHEDULES, _DOES_NOTHING)))


def _threads_offer_the_cpu(known: dict[str, int]) -> bool:
    """Whether cond_resched() does something: only where threads are not preempted without it."""
    if not all(known.values()) or len(known) < 3:
        return False
    jump = known[_CALL]
    try:
        target = jump + _JUMP_BYTES + _read_s32(jump + 1)
    except OSError:
        return False
    return target == known[_RESCHEDULES]


def _read_s32(address: int) -> int:
    """A number in the kernel's memory, read by a program that runs once."""
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
