"""What the kernel counts and measures of a BPF program: struct bpf_prog_info.

Run times are measured only while statistics are on: for everybody by sysctl
kernel.bpf_stats_enabled, or for as long as somebody holds a descriptor of BPF_ENABLE_STATS (5.8).
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
_SWITCH = Path("/proc/sys/kernel/bpf_stats_enabled")


def program_info(btf: Btf, program_fd: int, member: str) -> int | None:
    """A member of 64 bits; None where this kernel has none of that name."""
    offset = btf.offset("bpf_prog_info", member)
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


def run_time(btf: Btf, program_fd: int) -> tuple[int, int] | None:
    """(ns, runs) since loading, of the times when statistics were on."""
    ns, runs = (program_info(btf, program_fd, name) for name in ("run_time_ns", "run_cnt"))
    return None if ns is None or runs is None else (ns, runs)


def enabled(switch: Path = _SWITCH) -> bool:
    """Whether the sysctl has them on; a descriptor that somebody holds does not show in it."""
    try:
        return switch.read_text().strip() not in ("", "0")
    except OSError:
        return False


@contextmanager
def statistics() -> Iterator[None]:
    """On in the block, and as they were after it, however it ends: the kernel sees to that.

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
