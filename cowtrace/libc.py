"""Call functions of the C library that Python has no function for."""

from __future__ import annotations

import ctypes
import os
import signal
from functools import cache

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_NR_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
_PERF_FLAG_FD_CLOEXEC = 8


@cache
def libc() -> ctypes.CDLL:
    """The loaded library, with the types of arguments that are wider than an int."""
    library = ctypes.CDLL(None, use_errno=True)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    number, long, unsigned = ctypes.c_int, ctypes.c_long, ctypes.c_ulong
    library.mmap.restype = pointer
    library.mmap.argtypes = [pointer, size, number, number, number, long]
    for name in ("madvise", "mprotect", "msync"):
        getattr(library, name).argtypes = [pointer, size, number]
    library.mlock.argtypes = [pointer, size]
    library.ptrace.argtypes = [long, long, pointer, pointer]
    library.ptrace.restype = long
    library.clone.argtypes = [pointer, pointer, number, pointer]
    for call in (library.process_vm_readv, library.process_vm_writev):
        call.restype = ctypes.c_ssize_t
        call.argtypes = [number, pointer, unsigned, pointer, unsigned, unsigned]
    return library


def checked(result: int, wanted: int | None = None) -> int:
    """The result of a call. Raises OSError when it is negative, or another one than `wanted`."""
    if result < 0 or (wanted is not None and result != wanted):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def perf_event_open(attr: bytes, pid: int, cpu: int) -> int:
    """A descriptor of the event. Raises OSError, or KeyError on other architectures."""
    number = _NR_PERF_EVENT_OPEN[os.uname().machine]
    return checked(libc().syscall(number, attr, pid, cpu, -1, _PERF_FLAG_FD_CLOEXEC))


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end it if that has happened."""
    checked(libc().prctl(_PR_SET_PDEATHSIG, *map(ctypes.c_ulong, (signal.SIGKILL, 0, 0, 0))))
    if os.getppid() != parent:
        os._exit(1)
