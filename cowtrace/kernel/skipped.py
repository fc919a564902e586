"""Count runs that the kernel skipped: recursion protection.

- A BPF trampoline skips a run while the same program runs on that CPU. On a preemptible kernel, a
  thread can be preempted inside the program and others fault there meanwhile. On other kernels only
  an interrupt can come between, which is no fault: see ProbePlan.misses_faults.
- Kprobes run with preemption off, but the kernel skips them while any thread is preempted in a
  system call on a BPF map: see tracer/realtime.py.
"""

from __future__ import annotations

from cowtrace.kernel.btf import Btf
from cowtrace.kernel.statistics import program_info


def misses(btf: Btf, program_fd: int) -> int:
    """Skipped runs of one program; 0 where the kernel does not count them.

    Trampolines: "bpf: Count the number of times recursion was prevented", 5.12; kprobes and
    tracepoints: "bpf: Count missed stats in trace_call_bpf", 6.7.
    """
    return program_info(btf, program_fd, "recursion_misses") or 0
