"""Give up privileges for good: capabilities, new privileges, system calls, resources.

Each function changes this process alone and raises CowtraceError if the kernel or a missing library
refuses: a process that meant to give up something must not go on with it. libseccomp is required.
Capabilities and filters belong to threads, so all functions that change them refuse a process with
a second thread; threads and children that start later inherit what is left.
"""

from __future__ import annotations

import ctypes as c
import os
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.libc import libc

# include/uapi/linux/capability.h: those that cowtrace ever keeps or asks for
CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_KILL": 5,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
    "CAP_CHECKPOINT_RESTORE": 40,
}
_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two 32-bit words a set
_ALL_BITS = 64  # as many as the two words hold; the kernel refuses those that it does not know
# include/uapi/linux/prctl.h
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

# seccomp.h of libseccomp
ALLOW, KILL = 0x7FFF0000, 0x80000000  # KILL ends the process, not the thread
_ERRNO, _BAD_ARCHITECTURE, _MASKED_EQUAL, _UNKNOWN = 0x00050000, 2, 7, -1
_PATIENCE_SECONDS = 1.0  # a thread that was joined exists for a moment more


@dataclass(frozen=True, slots=True)
class Call:
    """A system call, if these bits of one of its arguments (from 0) have one of these values."""

    name: str
    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF  # the kernel reads an int from the low half: any high half gets through


def enter(
    allowed_system_calls: Iterable[str | Call], limits: Mapping[int, int] | None = None
) -> None:
    """Keep no capability, and die at any other system call. `limits`: by resource.RLIMIT_*."""
    limit({resource.RLIMIT_CORE: 0, **(limits or {})})
    keep_capabilities(())
    filter_calls(allowed_system_calls, ALLOW, otherwise=KILL)


def limit(limits: Mapping[int, int]) -> None:
    """Set soft and hard limits, by resource.RLIMIT_*; a lower hard limit stays."""
    for what, wanted in limits.items():
        hard = resource.getrlimit(what)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(what, (most, most))


def no_new_privileges() -> None:
    """From now on no program that this process executes gains any: setuid, file capabilities."""
    if libc().prctl(_PR_SET_NO_NEW_PRIVS, *map(c.c_ulong, (1, 0, 0, 0))):
        raise _refused("PR_SET_NO_NEW_PRIVS")


def keep_capabilities(kept: Iterable[str]) -> None:
    """Drop all capabilities but these, for good and for every child; set no_new_privs.

    Those kept stay permitted and effective if they were permitted. The inheritable and ambient
    sets become empty; the bounding set is reduced if CAP_SETPCAP is effective. Where it is not,
    no_new_privs alone keeps an executed program from gaining what the bounding set still holds.
    """
    _require_one_thread()
    no_new_privileges()
    bits = sum(1 << CAPABILITIES[name] for name in kept)
    clear_ambient()
    zero = c.c_ulong(0)
    for number in range(_ALL_BITS):
        if not bits >> number & 1:
            libc().prctl(_PR_CAPBSET_DROP, c.c_ulong(number), zero, zero, zero)
    words = _own_sets()
    for high in (0, 1):
        left = words[3 * high + 1] & bits >> 32 * high & 0xFFFFFFFF
        words[3 * high : 3 * high + 3] = [left, left, 0]
    _set(words)


def clear_ambient() -> None:
    """A program that another user executes inherits no capability."""
    zero = c.c_ulong(0)
    libc().prctl(_PR_CAP_AMBIENT, c.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), zero, zero, zero)


@contextmanager
def without_capabilities() -> Iterator[None]:
    """None is effective in the block, to find out which are needed. For this thread alone."""
    before, words = _own_sets(), _own_sets()
    words[0] = words[3] = 0
    _set(words)
    try:
        yield
    finally:
        _set(before)


def filter_calls(calls: Iterable[str | Call], action: int, *, otherwise: int) -> None:
    """Load a seccomp filter: `action` for these system calls, `otherwise` for all others.

    Actions: ALLOW, KILL, fail(errno). Sets no_new_privs. System calls of another architecture
    (i386, x32) always kill. A name that this architecture lacks is skipped; a name that libseccomp
    does not know is a mistake: ValueError.
    """
    _require_one_thread()
    no_new_privileges()
    library = _libseccomp()
    context = library.seccomp_init(otherwise)
    _checked(library.seccomp_attr_set(context, _BAD_ARCHITECTURE, KILL))
    for call in calls:
        name, comparisons = (call, [None]) if isinstance(call, str) else (call.name, _equal(call))
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            raise ValueError(f"libseccomp knows no system call {name}()")
        if number >= 0:
            for one in comparisons:
                count = 0 if one is None else 1
                _checked(library.seccomp_rule_add_array(context, action, number, count, one))
    _checked(library.seccomp_load(context))
    # The context is not released: the filter may already refuse what free() calls.


def require() -> None:
    """Raises CowtraceError if filter_calls() could not work here, before anything is begun."""
    library = _libseccomp()
    _checked(library.seccomp_attr_set(library.seccomp_init(ALLOW), _BAD_ARCHITECTURE, KILL))


def fail(errno: int) -> int:
    """The action that fails a system call with this error."""
    return _ERRNO | errno


def _own_sets() -> c.Array[c.c_uint32]:
    """Effective, permitted, inheritable: the low 32 bits of each, then the high ones."""
    words = (c.c_uint32 * 6)()
    if libc().capget((c.c_uint32 * 2)(_VERSION_3, 0), words):
        raise _refused("capget")
    return words


def _set(words: c.Array[c.c_uint32]) -> None:
    if libc().capset((c.c_uint32 * 2)(_VERSION_3, 0), words):
        raise _refused("capset")


class _Comparison(c.Structure):
    _fields_ = (("arg", c.c_uint), ("op", c.c_int), ("mask", c.c_uint64), ("value", c.c_uint64))


def _equal(call: Call) -> list[c.Array[_Comparison]]:
    return [
        (_Comparison * 1)(_Comparison(call.argument, _MASKED_EQUAL, call.mask, value))
        for value in call.values
    ]


def _require_one_thread() -> None:
    """Raises CowtraceError if there is another thread: it would keep what this one gives up."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while len(list(Path("/proc/self/task").iterdir())) > 1:
        if time.monotonic() > end:
            names = [p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm")]
            raise CowtraceError(
                f"cannot give up privileges: {len(names)} threads run: {', '.join(names)}",
                hint="report this with the command that you ran",
            )
        time.sleep(0.001)


def _checked(result: int) -> None:
    """libseccomp returns the negative error."""
    if result < 0:
        c.set_errno(-result)
        raise _refused("the seccomp filter")


def _refused(what: str) -> CowtraceError:
    return CowtraceError(
        f"cannot give up privileges: {what}: {os.strerror(c.get_errno())}",
        hint="the kernel needs CONFIG_SECCOMP_FILTER; in a container, allow seccomp and prctl",
    )


@cache
def _libseccomp() -> c.CDLL:
    try:
        library = c.CDLL("libseccomp.so.2")
    except OSError as error:
        raise CowtraceError(
            f"cannot give up privileges: {error}", hint="install it: apt install libseccomp2"
        ) from None
    library.seccomp_init.restype = c.c_void_p
    library.seccomp_init.argtypes = (c.c_uint32,)
    library.seccomp_attr_set.argtypes = (c.c_void_p, c.c_int, c.c_uint32)
    library.seccomp_load.argtypes = (c.c_void_p,)
    library.seccomp_syscall_resolve_name.argtypes = (c.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (
        c.c_void_p, c.c_uint32, c.c_int, c.c_uint, c.c_void_p,
    )  # fmt: skip
    return library
