"""How often the kernel did not run a BPF program, for it was running on that CPU already.

On a preemptible kernel a thread can be preempted inside a program; meanwhile the program does
not run for other threads on that CPU. Kprobes run with preemption off and know no such loss.
Elsewhere it is an interrupt that came between, and no fault: see ProbePlan.misses_faults.
"""

from __future__ import annotations

from cowtrace.kernel.btf import Btf
from cowtrace.kernel.statistics import program_info


def misses(btf: Btf, program_fd: int) -> int:
    """Calls of one program that were passed over; 0 where the kernel does not count them (5.10)."""
    return program_info(btf, program_fd, "recursion_misses") or 0
