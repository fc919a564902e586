"""Find out what this kernel can do, by looking at it, never by its version."""

from __future__ import annotations

import functools
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.kernel.kallsyms import read_kallsyms

EXIT_UNSUPPORTED = 77  # what test programs exit with when they cannot run (automake)


class Unsupported(CowtraceError):
    """This kernel or machine lacks what the workload needs; the message is the reason."""

    def __init__(self, message: str, *, hint: str = "see what there is: cowtrace doctor") -> None:
        super().__init__(message, hint=hint, exit_code=EXIT_UNSUPPORTED)


@functools.cache
def has_type(name: str) -> bool:
    """True if the kernel's BTF has a type, member or enumerator of that name."""
    try:
        return b"\0" + name.encode() + b"\0" in Path("/sys/kernel/btf/vmlinux").read_bytes()
    except OSError:
        return False


def has_function(name: str) -> bool:
    """True if the kernel has a function of that name that is not inlined everywhere."""
    return bool(read_kallsyms((name,)))
