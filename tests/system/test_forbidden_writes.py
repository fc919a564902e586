"""A write that the mapping forbids ends in SIGSEGV: it is neither a copy nor a re-mark."""

from __future__ import annotations

import mmap
import signal
import subprocess
import sys

import pytest
from workload_checks import IN_VM, plans

from cowtrace import tracer
from cowtrace.model import FaultKind
from cowtrace.workloads.region import REGION_START

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread("6.12"),
]

PAGES = 23
SIZE = PAGES * mmap.PAGESIZE
# In each page, the process alone has it; then a forked child shares it.
CODE = f"""
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
at = libc.mmap({REGION_START}, {SIZE}, 3, 0x100022, -1, 0)  # private, anonymous, fixed
assert at == {REGION_START}, ctypes.get_errno()
ctypes.memset(at, 1, {SIZE})
assert libc.mprotect(at, {SIZE}, 1) == 0  # only to be read
for page in range({PAGES}):
    child = os.fork()
    if not child:
        ctypes.memset(at + page * {mmap.PAGESIZE}, 2, 1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] & 0x7F == signal.SIGSEGV
ctypes.memset(at, 2, 1)
"""


@pytest.mark.parametrize("plan", plans() if IN_VM else ["auto"])
def test_it_counts_as_nothing(plan: str) -> None:
    with tracer.attach(
        plan,
        region=(REGION_START, REGION_START + SIZE),
        events=True,
    ) as live:
        ended = subprocess.run([sys.executable, "-c", CODE])
        assert ended.returncode == -signal.SIGSEGV
        events = [*live.events(0), *live.events(0), *live.events(0)]
        snapshot = live.snapshot()
    kinds = {row.kind for process in snapshot.processes for row in process.rows if row.faults}
    if FaultKind.SHARED in snapshot.unseen:  # the tracepoint plan without a page table
        assert kinds == {FaultKind.REUSED}
    else:
        assert kinds == set()
        assert events == []
