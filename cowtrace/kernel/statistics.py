"""Read the kernel's statistics of a BPF program: struct bpf_prog_info.

The kernel measures run times only while statistics are on: for all programs by sysctl
kernel.bpf_stats_enabled, or while a process holds a descriptor of BPF_ENABLE_STATS (5.8).

It skips runs to prevent recursion:
- A BPF trampoline skips a run while the same program runs on that CPU. On a preemptible kernel, a
  thread can be preempted inside the program, and other threads fault there meanwhile. On other
  kernels, only an interrupt can come between, which is not a fault: see ProbePlan.misses_faults.
- Kprobes run with preemption off, but the kernel skips them while a thread on that CPU is
  preempted in a system call on a BPF map: see tracer/realtime.py.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.kernel.btf import Btf
from cowtrace.kernel.libbpf import libbpf

_INFO_BYTES = 512  # more than struct bpf_prog_info has in any version
_RUN_TIME = 0  # BPF_STATS_RUN_TIME
_SYSCTL = Path("/proc/sys/kernel/bpf_stats_enabled")


def _member(btf: Btf, program_fd: int, name: str) -> int | None:
    """A member of 64 bits; None if this kernel does not have it."""
    offset = btf.offset("bpf_prog_info", name)
    if offset is None:
        return None
    info = ctypes.create_string_buffer(_INFO_BYTES)
    size = ctypes.c_uint32(_INFO_BYTES)
    if libbpf().bpf_obj_get_info_by_fd(program_fd, info, ctypes.byref(size)):
        return None
    if size.value < offset + 8:
        return None
    (value,) = struct.unpack_from("<Q", info.raw, offset)
    return int(value)


def skipped_runs(btf: Btf, program_fd: int) -> int:
    """Runs of one program that the kernel skipped; 0 if the kernel does not count them.

    Trampolines: "bpf: Count the number of times recursion was prevented", 5.12; kprobes and
    tracepoints: "bpf: Count missed stats in trace_call_bpf", 6.7.
    """
    return _member(btf, program_fd, "recursion_misses") or 0


def run_time(btf: Btf, program_fd: int) -> tuple[int, int] | None:
    """(ns, runs) since loading, while statistics were on."""
    ns, runs = (_member(btf, program_fd, name) for name in ("run_time_ns", "run_cnt"))
    return None if ns is None or runs is None else (ns, runs)


def enabled(sysctl: Path = _SYSCTL) -> bool:
    """True if the sysctl has statistics on. It does not show descriptors of BPF_ENABLE_STATS."""
    try:
        return sysctl.read_text().strip() not in ("", "0")
    except OSError:
        return False


@contextmanager
def bpf_statistics() -> Iterator[None]:
    """Turn statistics on in the block. The kernel turns them off when the process ends, too.

    Raises CowtraceError where this kernel, or these privileges, do not allow it.
    """
    fd = libbpf().bpf_enable_stats(_RUN_TIME)
    if fd < 0:
        raise CowtraceError(
            f"cannot turn on BPF statistics: {os.strerror(-fd)}",
            hint="that takes Linux 5.8 and CAP_SYS_ADMIN: run it as root",
        )
    try:
        yield
    finally:
        os.close(fd)
