"""A seccomp profile for containers that trace, as podman and docker read it: what a start takes.

Wider than `confinement`, which narrows it once the probes are attached, and narrower than the
runtimes' own profiles: those allow three times as many system calls, but not bpf(2) without
CAP_SYS_ADMIN. The workloads of `cowtrace verify` need more.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from cowtrace.sandbox import Call
from cowtrace.tracer.confinement import CLONE, FILES, OUTPUT, PROCESS, SERVE, START

_ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
# To compile, load and attach programs, to keep them, and to start a command.
_ATTACH: tuple[str | Call, ...] = (
    "bpf", "perf_event_open", "open", "openat", "ioctl", "fcntl", "kill", "tgkill", "prlimit64",
    "sched_setscheduler", "mkdir", "mkdirat", "utimensat", "chmod",
    "fchmod", "fchmodat", "umask", "chdir", "fchdir", "getxattr", "fadvise64", "fallocate",
    "mincore", "copy_file_range", "sendfile", "sched_setaffinity", "setpgid", "rt_sigsuspend",
    "pause", "alarm", "getpriority",
    *(Call("socket", 0, (int(f),)) for f in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX,
                                             socket.AF_NETLINK)),
    "bind", "listen", "connect", "sendmmsg",
)  # fmt: skip
# What a runtime calls between loading the profile and executing cowtrace.
_RUNTIME = ("setuid", "setgid", "setgroups", "setresuid", "setresgid")


def profile() -> dict[str, Any]:
    """The JSON object; what is not allowed fails as if the kernel did not have it."""
    calls = (CLONE, *FILES, *PROCESS, *OUTPUT, *START, *SERVE, *_ATTACH, *_RUNTIME)
    names = sorted({call for call in calls if isinstance(call, str)})
    restricted = [c for c in calls if isinstance(c, Call) and c.name not in names]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.ENOSYS,
        "archMap": [{"architecture": name, "subArchitectures": []} for name in _ARCHITECTURES],
        "syscalls": [
            _rule(names),
            *(_rule([call.name], _argument(call, value)) for call in restricted
              for value in call.values),
        ],
    }  # fmt: skip


def _rule(names: list[str], *arguments: dict[str, Any]) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def _argument(call: Call, value: int) -> dict[str, Any]:
    return {
        "index": call.argument, "value": call.mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ",
    }  # fmt: skip
