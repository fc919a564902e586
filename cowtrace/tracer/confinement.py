"""Give up what a tracer no longer needs once its probes are attached: capabilities, system calls.

What is left can read what the user may read, count, and write to what is open. It opens no file for
writing, loads no program, attaches to no process and, unless stacks are named, executes nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cowtrace import sandbox
from cowtrace.files import PROC, without_links
from cowtrace.frames.entries import PAGEMAP_SCAN
from cowtrace.kernel.libbpf import libbpf
from cowtrace.sandbox import Call

# include/uapi/linux/bpf.h: elements and batches of maps, information on a program
_BPF = Call("bpf", 0, (1, 2, 3, 4, 15, 24, 25, 26, 27))
_READ_ONLY = Call("openat", 2, (0,), os.O_ACCMODE | os.O_CREAT | os.O_TRUNC)
# Threads and processes, but no namespaces: in one of its own this process had every capability.
# What clone3() does is behind a pointer; where it fails, the C library calls clone().
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW*
CLONE = Call("clone", 0, (0,), _NEW_NAMESPACES)
# Of terminals without TIOCSTI, which types into the user's shell: TCGETS to TCSETSF, TIOCGPGRP,
# TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS2 to TCSETSF2.
_IOCTL = Call(
    "ioctl", 1,
    (0x5401, 0x5402, 0x5403, 0x5404, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451,
     0x802C542A, 0x402C542B, 0x402C542C, 0x402C542D),
)  # fmt: skip
_SCAN = Call("ioctl", 1, (PAGEMAP_SCAN,))  # what it shall do lies behind a pointer
FILES = (
    "read", "readv", "pread64", "preadv", "write", "writev", "pwrite64", "lseek", "close",
    "close_range", "dup", "dup2", "dup3", "flock", "fsync", "fdatasync", "ftruncate",
    "fstat", "stat", "lstat", "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat",
    "faccessat2", "readlink", "readlinkat", "getdents64", "getcwd", "pipe", "pipe2", "poll",
    "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",
    "eventfd2",
)  # fmt: skip
PROCESS = (
    "mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "membarrier", "futex", "rseq",
    "set_robust_list", "set_tid_address", "arch_prctl", "exit", "exit_group", "wait4", "waitid",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigpending",
    "sigaltstack", "restart_syscall", "getpid", "gettid", "getppid", "getpgrp",
    "getpgid", "getsid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid",
    "getgroups", "getrusage", "getrlimit", "sysinfo", "uname", "getrandom",
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
    "sched_yield", "sched_getaffinity", "sched_getscheduler", "sched_getparam",
    "sched_get_priority_max",
)  # fmt: skip
# What root could do to other processes of root without any capability, done to itself. Of fcntl():
# neither F_SETOWN nor F_SETSIG, which have the kernel send a signal.
_FCNTL = Call("fcntl", 1, (*range(8), *range(36, 39), *range(1030, 1035)))
_ITSELF = (Call("prlimit64", 0, (0,)), Call("sched_setscheduler", 0, (0,)), _FCNTL)
# To replace a file beside which a new one was written, and to end SQLite's write-ahead log.
OUTPUT = ("rename", "renameat", "renameat2", "unlink", "unlinkat", "fchown")
# To start the symbolizer again, and what it needs to enter its own sandbox. Its standard streams
# must be open already: DEVNULL is opened for writing. openat2() hides its flags behind a pointer.
START = (
    "vfork", "fork", "execve", "setsid", "socketpair", "sendmsg", "recvmsg", "setsockopt",
    "getsockopt", "getsockname", "getpeername", "prctl", "capget", "capset", "seccomp", "setrlimit",
    "memfd_create",
)  # fmt: skip
# To hand pages to the process that serves them.
_PUBLISH = ("memfd_create", "sendmsg")
# To serve at a socket that listens already: this makes no connection of its own. PR_SET_PDEATHSIG
# has the kernel end it with its parent.
SERVE = (
    "accept", "accept4", "shutdown", "getsockname", "getpeername", "setsockopt", "getsockopt",
    "socketpair", "sendto", "recvfrom", "sendmsg", "recvmsg", Call("prctl", 0, (1,)),
)  # fmt: skip
_NOT_SERVED = {"flock", "ftruncate"}
# To connect to a collector by IPv4 or IPv6, and to find its address: AF_INET, AF_INET6.
_SEND = (
    Call("socket", 0, (2, 10)), "connect", "shutdown", "getsockname", "getpeername", "setsockopt",
    "getsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg",
)  # fmt: skip
# As if the kernel did not have it: libraries then take an older call.
_REFUSED = sandbox.fail(errno.ENOSYS)
# Of other users' processes: maps, map_files, files that are mapped, perf maps.
# Frame numbers; of other users' processes.
_FRAMES = ("CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")
_NAMING = ("CAP_SYS_PTRACE", "CAP_CHECKPOINT_RESTORE", "CAP_DAC_READ_SEARCH")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a command does beside counting and writing to what is open."""

    output: str | None = None  # a file that is put into place at the end
    command: bool = False  # signals are forwarded to a command, which may be another user's
    publishes: bool = False  # hands pages to another process
    frames: bool = False  # reads which page frames processes map


def confine(
    map_fd: int | None, needs: Needs, *, names_stacks: bool = False, names_mappings: bool = False
) -> None:
    """For good. `map_fd`: any BPF map; None: there is none. Raises CowtraceError if the kernel
    refuses."""
    kept = _kept(map_fd, needs)
    if names_stacks or names_mappings:
        kept.update(_NAMING)
    if needs.frames:
        kept.update(_FRAMES)
    # Maps are read by a real-time thread (see realtime), which took CAP_SYS_NICE until now.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_RTPRIO, (1, 1))
    sandbox.limit({resource.RLIMIT_CORE: 0})
    sandbox.keep_capabilities(kept)
    own = os.getpid()
    calls: list[str | Call] = [_READ_ONLY, CLONE, _IOCTL, *FILES, *PROCESS, *_ITSELF]
    calls.append(Call("tgkill", 0, (own,)))
    if map_fd is not None:
        calls.append(_BPF)
    if needs.frames:
        calls.append(_SCAN)
    ends_children = needs.command or needs.publishes or names_stacks
    calls.append("kill" if ends_children else Call("kill", 0, (own,)))
    if needs.output:
        calls += OUTPUT
    if names_stacks:
        calls += START
    if needs.publishes:
        calls += _PUBLISH
    sandbox.filter_calls(calls, sandbox.ALLOW, otherwise=_REFUSED)


def confine_server() -> None:
    """For a process that serves pages and has no probes. Raises CowtraceError."""
    _confine_to(SERVE)


def confine_sender() -> None:
    """For a process that sends to a collector and has no probes. Raises CowtraceError."""
    _confine_to(_SEND)


def _confine_to(more: Iterable[str | Call]) -> None:
    """Read files, and these calls; no capabilities."""
    own = [name for name in (*FILES, *PROCESS) if name not in _NOT_SERVED]
    sandbox.limit({resource.RLIMIT_CORE: 0})
    sandbox.keep_capabilities(())
    calls: list[str | Call] = [_READ_ONLY, CLONE, _IOCTL, _FCNTL, _ITSELF[0], *own, *more]
    sandbox.filter_calls(calls, sandbox.ALLOW, otherwise=_REFUSED)


def _kept(map_fd: int | None, needs: Needs) -> set[str]:
    """The capabilities that are needed, by trying without."""
    code = [path for path in sys.path if path and os.access(path, os.R_OK, effective_ids=True)]
    folder = _folder(needs.output) if needs.output else None
    kept = set()
    if needs.command:
        kept.add("CAP_KILL")
    with sandbox.without_capabilities():
        if map_fd is not None and not _can_read(map_fd):
            kept.add("CAP_BPF")
        # Installed in a home folder, which only its owner may enter; modules are imported late.
        if not all(os.access(path, os.R_OK, effective_ids=True) for path in code):
            kept.add("CAP_DAC_READ_SEARCH")
        # Another user's, as with sudo.
        if folder and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            kept.add("CAP_DAC_OVERRIDE")
    return kept


def _can_read(map_fd: int) -> bool:
    """Kernels before "bpf: refine kernel.unprivileged_bpf_disabled behaviour" (5.19) may refuse."""
    info, size = ctypes.create_string_buffer(256), ctypes.c_uint32(256)
    return not libbpf().bpf_obj_get_info_by_fd(map_fd, info, ctypes.byref(size))


def _folder(output: str) -> Path | None:
    """Where the output is put into place; None: it is an open descriptor, as /dev/stdout."""
    path = without_links(Path(output))
    return None if path.is_relative_to(PROC) else path.parent
