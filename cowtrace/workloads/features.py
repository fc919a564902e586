"""Find out what this kernel can do, by looking at it, never by its version."""

from __future__ import annotations

import functools
import gzip
import os
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.kernel.btf import VMLINUX
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
        return b"\0" + name.encode() + b"\0" in VMLINUX.read_bytes()
    except OSError:
        return False


_CONFIGS = ("/proc/config.gz", "/boot/config-{}", "/lib/modules/{}/config")


@functools.cache
def config(option: str) -> str | None:
    """The value of CONFIG_<option> of the running kernel, "n" if it is off; None if hidden.

    From /proc/config.gz (CONFIG_IKCONFIG_PROC), or from the file that distributions add to /boot.
    """
    for pattern in _CONFIGS:
        path = Path(pattern.format(os.uname().release))
        if path.is_file():
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
            lines = (line for line in text.splitlines() if line.startswith("CONFIG_"))
            return dict(line.split("=", 1) for line in lines).get(f"CONFIG_{option}", "n")
    return None


def has_function(name: str) -> bool:
    """True if the kernel has a function of that name that is not inlined everywhere."""
    return bool(read_kallsyms((name,)))
