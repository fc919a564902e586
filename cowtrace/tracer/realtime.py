"""Run BPF map system calls under SCHED_FIFO, so that no fault is skipped while one is preempted.

During such a call, kprobes and tracepoints on its CPU run no program: "bpf: Provide recursion
prevention helpers" (5.7), bpf_disable_instrumentation(). That loses nothing while the thread runs.
But since "sched: Make migrate_disable/enable() independent of RT" (5.11) a preemptible kernel can
preempt the thread inside the call. Then the kernel skips the faults of all threads that run in its
place, for a whole time slice. Ordinary threads do not preempt a real-time thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from cowtrace.kernel.preemption import preemptible

_NOT_REAL_TIME = (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE)


@contextmanager
def real_time_thread() -> Iterator[None]:
    """Keep ordinary threads from preempting this one in the block.

    Without CAP_SYS_NICE and RLIMIT_RTPRIO they can: what the kernel then skips counts as lost.
    """
    policy = os.sched_getscheduler(0) if _can_be_preempted() else None
    if policy not in _NOT_REAL_TIME:
        yield
        return
    try:
        _set_policy(os.SCHED_FIFO, 1)
        yield
    finally:
        _set_policy(policy, 0)


def _set_policy(policy: int, priority: int) -> None:
    with suppress(OSError):
        os.sched_setscheduler(0, policy, os.sched_param(priority))


@cache
def _can_be_preempted() -> bool:
    return preemptible()
