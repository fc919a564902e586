"""What this kernel can do, found by looking at it, never by its version."""

from __future__ import annotations

import functools
import mmap
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


def page_of(flag: int, frame: int) -> bool:
    """Whether a page frame has that bit in /proc/kpageflags (KPF_KSM is 21)."""
    with Path("/proc/kpageflags").open("rb", buffering=0) as flags:
        flags.seek(8 * frame)
        return bool(int.from_bytes(flags.read(8), "little") >> flag & 1)


def small_pages() -> int:
    """Small pages in a huge one."""
    return mmap.PAGESIZE // 8
