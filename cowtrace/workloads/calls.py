"""Make system calls that Python has no function for. All raise OSError."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from collections.abc import Sequence

from cowtrace.libc import checked, libc

MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK = 10, 11, 18
MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE = 12, 13, 14, 15
MADV_DONTNEED, MADV_PAGEOUT, MADV_COLLAPSE = 4, 21, 25
MADV_POPULATE_READ, MADV_POPULATE_WRITE = 22, 23
MADV_GUARD_INSTALL, MADV_GUARD_REMOVE = 102, 103
PROT_NONE, PROT_READ, PROT_WRITE = 0, 1, 2
PTRACE_POKEDATA, PTRACE_ATTACH, PTRACE_DETACH = 5, 16, 17
CLONE_VM, CLONE_VFORK, SIGCHLD = 0x100, 0x4000, 17

# include/uapi/linux/prctl.h
PR_SET_THP_DISABLE, PR_GET_THP_DISABLE = 41, 42
PR_THP_DISABLE_EXCEPT_ADVISED = 2
PR_SET_MEMORY_MERGE, PR_GET_MEMORY_MERGE = 67, 68

_IO_URING_SETUP, _IO_URING_REGISTER = 425, 427  # the same on every architecture
_IORING_REGISTER_BUFFERS = 0
_IO_URING_PARAMS_BYTES = 120

_MEMFD_SECRET = 447
_MLOCK_ONFAULT = 1
SPLICE_F_GIFT = 8

_USERFAULTFD = {"x86_64": 323, "aarch64": 282, "riscv64": 282}
_UFFD_API, UFFD_FEATURE_WP, UFFD_FEATURE_WP_ASYNC = 0xAA, 1, 1 << 15
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
_UFFDIO_REGISTER_MODE_WP = 2

_MAP_FIXED = 0x10  # not in Python's mmap module

_libc = libc()
_IOV_MAX = 1024


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def madvise(start: int, size: int, advice: int) -> None:
    checked(_libc.madvise(start, size, advice))


def mprotect(start: int, size: int, protection: int) -> None:
    checked(_libc.mprotect(start, size, protection))


def prctl(option: int, *arguments: int) -> int:
    """Its result; arguments that are left out are 0."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return checked(_libc.prctl(option, *map(ctypes.c_ulong, padded)))


def map_anew(
    start: int,
    size: int,
    flags: int = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
    protection: int = mmap.PROT_READ | mmap.PROT_WRITE,
    file: int = -1,
) -> None:
    """Map something untouched, about which the kernel had no advice, in place of other memory."""
    at = _libc.mmap(start, size, protection, flags | _MAP_FIXED, file, 0)
    checked(0 if at == start else -1)


def mlock(start: int, size: int) -> None:
    checked(_libc.mlock(start, size))


def mlock_on_fault(start: int, size: int) -> None:
    """mlock2(2): lock what is mapped now, and the rest when it is touched."""
    checked(_libc.mlock2(ctypes.c_void_p(start), ctypes.c_size_t(size), _MLOCK_ONFAULT))


def munmap(start: int, size: int) -> None:
    checked(_libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(size)))


def msync(start: int, size: int) -> None:
    """Write back and wait (MS_SYNC)."""
    checked(_libc.msync(start, size, 4))


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    checked(_libc.ptrace(request, pid, address, data))


def vm_write(pid: int, addresses: Sequence[int], value: int) -> None:
    """process_vm_writev(2): one byte to each address of the process."""
    _vm(_libc.process_vm_writev, pid, addresses, bytearray([value]) * len(addresses))


def vm_read(pid: int, addresses: Sequence[int]) -> bytes:
    """process_vm_readv(2): one byte from each address of the process."""
    read = bytearray(len(addresses))
    _vm(_libc.process_vm_readv, pid, addresses, read)
    return bytes(read)


def _vm(call: ctypes._NamedFuncPointer, pid: int, addresses: Sequence[int], own: bytearray) -> None:
    local = (ctypes.c_ubyte * len(own)).from_buffer(own)
    at = ctypes.addressof(local)
    for first in range(0, len(addresses), _IOV_MAX):
        some = addresses[first : first + _IOV_MAX]
        here = _Iovec(at + first, len(some))
        there = (_Iovec * len(some))(*(_Iovec(address, 1) for address in some))
        checked(call(pid, ctypes.byref(here), 1, there, len(some), 0), wanted=len(some))


def pin_for_io_uring(start: int, size: int) -> int:
    """Register memory as a fixed buffer of a new io_uring: pinned until the descriptor closes."""
    parameters = ctypes.create_string_buffer(_IO_URING_PARAMS_BYTES)
    ring: int = checked(_libc.syscall(_IO_URING_SETUP, 1, parameters))
    buffer = _Iovec(start, size)
    arguments = (_IORING_REGISTER_BUFFERS, ctypes.byref(buffer), 1)
    try:
        checked(_libc.syscall(_IO_URING_REGISTER, ring, *arguments))
    except OSError:
        os.close(ring)
        raise
    return ring


def memfd_secret() -> int:
    """A file whose pages are not in the kernel's map of memory (Linux 5.14, if enabled)."""
    file: int = checked(_libc.syscall(_MEMFD_SECRET, 0))
    return file


def vmsplice(pipe: int, start: int, size: int, flags: int) -> None:
    """Put the pages of this memory themselves into a pipe that has room for them."""
    pages = _Iovec(start, size)
    spliced = _libc.vmsplice(pipe, ctypes.byref(pages), ctypes.c_size_t(1), flags)
    checked(spliced, wanted=size)


def userfaultfd_wp(start: int, size: int, features: int = UFFD_FEATURE_WP) -> int:
    """A userfaultfd that receives writes to protected pages of this memory (Linux 5.7).

    With UFFD_FEATURE_WP_ASYNC (6.7), the kernel lets the writes pass, and notes the pages.
    """
    uffd: int = checked(_libc.syscall(_USERFAULTFD[os.uname().machine], os.O_CLOEXEC))
    try:
        fcntl.ioctl(uffd, _UFFDIO_API, struct.pack("=QQQ", _UFFD_API, features, 0))
        register = struct.pack("=QQQQ", start, size, _UFFDIO_REGISTER_MODE_WP, 0)
        fcntl.ioctl(uffd, _UFFDIO_REGISTER, register)
    except OSError:
        os.close(uffd)
        raise
    return uffd


def write_protect(uffd: int, start: int, size: int, *, on: bool) -> None:
    """Protect memory, or remove the protection and wake the waiting threads."""
    fcntl.ioctl(uffd, _UFFDIO_WRITEPROTECT, struct.pack("=QQQ", start, size, on))


def clone_calling_time(address: int, flags: int) -> int:
    """clone(2) a process that shares this memory, writes the time to `address`, and exits.

    The C library's time(2) takes one pointer, as clone's function does, and needs no thread of
    its own: no Python runs in the new process. Returns its pid after it has exited.
    """
    stack = ctypes.create_string_buffer(1 << 16)
    top = ctypes.addressof(stack) + len(stack) & ~15
    call = ctypes.cast(_libc.time, ctypes.c_void_p)
    pid: int = checked(_libc.clone(call, top, flags | SIGCHLD, address))
    os.waitpid(pid, 0)
    return pid
