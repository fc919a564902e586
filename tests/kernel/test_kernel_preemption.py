"""Whether threads are preempted in this kernel: the same by debugfs and by its code."""

from __future__ import annotations

import os
from pathlib import Path

from cowtrace.kernel.preemption import preemptible
from cowtrace.kernel.symbols import symbols

DEBUGFS, NOWHERE = Path("/sys/kernel/debug/sched/preempt"), Path("/nonexistent")
CHOSEN_AT_BOOT = "#1 SMP PREEMPT_DYNAMIC"


def test_the_code_tells_what_debugfs_tells() -> None:
    if "__SCT__cond_resched" in symbols(("__SCT__cond_resched",)):
        assert DEBUGFS.exists()
        assert preemptible(CHOSEN_AT_BOOT, NOWHERE) is preemptible(CHOSEN_AT_BOOT, DEBUGFS)
    else:  # 5.10 and real-time kernels have no choice at boot; arm64 chooses by other means
        kernel = os.uname()
        chosen = kernel.release.startswith("5.10.") or "PREEMPT_RT" in kernel.version
        assert chosen or kernel.machine != "x86_64"
        assert preemptible(CHOSEN_AT_BOOT, NOWHERE)
