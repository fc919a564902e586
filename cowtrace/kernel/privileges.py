"""Check that this process may load BPF programs, and that its PIDs are host PIDs."""

from __future__ import annotations

from pathlib import Path

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.sandbox import CAPABILITIES

_TRACING = ("CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN")
_STATUS = Path("/proc/self/status")
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_INITIAL = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def capabilities(status: Path = _STATUS) -> frozenset[str]:
    """The capabilities of this process that tracing needs."""
    lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
    effective = int(lines["CapEff"], 16)
    return frozenset(name for name in _TRACING if effective >> CAPABILITIES[name] & 1)


def may_trace(held: frozenset[str]) -> bool:
    """True with CAP_BPF and CAP_PERFMON (5.8 and later); CAP_SYS_ADMIN includes both."""
    return "CAP_SYS_ADMIN" in held or {"CAP_BPF", "CAP_PERFMON"} <= held


def lockdown(path: Path = _LOCKDOWN) -> str | None:
    """none, integrity or confidentiality; None if the kernel has no lockdown or hides it."""
    try:
        text = path.read_text()
    except OSError:
        return None
    return text.partition("[")[2].partition("]")[0] or None


def in_initial_pid_namespace(own: Path = _PID_NAMESPACE) -> bool:
    """True if PIDs here are host PIDs; in most containers they are not.

    A kernel without CONFIG_PID_NS has host PIDs only, and no such file.
    """
    try:
        return own.stat().st_ino == _INITIAL
    except FileNotFoundError:
        return True


def require_privileges() -> None:
    """Raises CowtraceError if no plan can run, or its PIDs would be wrong, on any kernel."""
    if not in_initial_pid_namespace():
        raise CowtraceError(
            "this PID namespace is not the host's: the kernel counts by host PIDs",
            hint="run it on the host, or in a container that shares the host's PIDs: --pid=host",
            exit_code=EXIT_NO_PLAN,
        )
    if not may_trace(capabilities()):
        raise CowtraceError(
            "loading BPF programs needs root, or CAP_BPF and CAP_PERFMON",
            hint="run it again with sudo",
            exit_code=EXIT_NO_PLAN,
        )
    if lockdown() == "confidentiality":
        raise CowtraceError(
            "kernel lockdown is in confidentiality mode: BPF may not read kernel memory",
            hint="boot with lockdown=integrity or none, or use the VM: cowtrace vm run 6.12 -- ...",
            exit_code=EXIT_NO_PLAN,
        )
