"""What this kernel can do, found by looking at it, never by its version."""

from __future__ import annotations

import functools
from pathlib import Path


def has_type(name: str) -> bool:
    """Whether the kernel's BTF has a type, member or enumerator of that name."""
    return b"\0" + name.encode() + b"\0" in _btf()


def has_function(name: str) -> bool:
    """Whether the kernel has a function, not inlined everywhere, of that name."""
    return f" {name}\n" in _kallsyms()


@functools.cache
def _btf() -> bytes:
    try:
        return Path("/sys/kernel/btf/vmlinux").read_bytes()
    except OSError:
        return b""


@functools.cache
def _kallsyms() -> str:
    return Path("/proc/kallsyms").read_text(encoding="ascii", errors="replace")
