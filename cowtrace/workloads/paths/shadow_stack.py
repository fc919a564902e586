"""Write shadow-stack memory (CET), which only a processor that has shadow stacks can write.

Known from the sources of Linux 6.6 and the processor's manual alone: no such machine was at hand.
"""

from __future__ import annotations

import ctypes
import mmap
import re
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.frames.words import address_of
from cowtrace.libc import checked, libc
from cowtrace.workloads import calls
from cowtrace.workloads.features import Unsupported
from cowtrace.workloads.outcome import child, parent
from cowtrace.workloads.region import PAGE_BYTES
from cowtrace.workloads.workload import workload
from cowtrace.workloads.writer import BEFORE, CHILD, Writer

_MAP_SHADOW_STACK = 453
_CPU_FLAG = re.compile(r"^flags\s*:.*\buser_shstk\b", re.MULTILINE)

# long write(start, pages, stride, value): store a word in each page by WRSS. Shadow stacks are
# turned on and off inside, between no call and its return: such a return would not be in one.
_WRITE = bytes.fromhex(
    "4989f8"  # mov r8, rdi
    "4989f1"  # mov r9, rsi
    "4989d2"  # mov r10, rdx
    "4889ca"  # mov rdx, rcx
    "bf01500000 be01000000 b89e000000 0f05"  # arch_prctl(ARCH_SHSTK_ENABLE, ARCH_SHSTK_SHSTK)
    "85c0 752e"  # on failure, return its result
    "be02000000 b89e000000 0f05"  # arch_prctl(ARCH_SHSTK_ENABLE, ARCH_SHSTK_WRSS)
    "85c0 750d"  # on failure, turn off
    "490f38f610"  # wrssq [r8], rdx
    "4d01d0"  # add r8, r10
    "49ffc9"  # dec r9
    "75f3"  # the next page
    "bf02500000 be01000000 b89e000000 0f05"  # arch_prctl(ARCH_SHSTK_DISABLE, ARCH_SHSTK_SHSTK)
    "c3"
)


@workload(
    lambda pages: (parent(), child(copied=pages)),
    group="shadow stack",
    claim="a write to a shadow-stack page that fork made shared copies it",
)
def shadow_stack_writes(me: Writer) -> None:
    """the child writes pages of a shadow stack (WRSS) that fork made shared: copied"""
    if not _CPU_FLAG.search(Path("/proc/cpuinfo").read_text(errors="replace")):
        raise Unsupported("no shadow stacks: /proc/cpuinfo does not list user_shstk")
    start, size = me.region.start, me.region.size_bytes
    calls.munmap(start, size)
    at = libc().syscall(_MAP_SHADOW_STACK, ctypes.c_ulong(start), ctypes.c_ulong(size), 0)
    checked(at)
    _write(me, BEFORE)
    with me.fork() as other:
        other.do(_write_watched)
        other.do(Writer.expect, CHILD)
        me.expect(BEFORE)


def _write_watched(me: Writer) -> None:
    with me.watch():
        _write(me, CHILD)


def _write(me: Writer, value: int) -> None:
    with mmap.mmap(-1, PAGE_BYTES, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(_WRITE)
        kind = ctypes.CFUNCTYPE(ctypes.c_long, *(ctypes.c_ulong,) * 4)
        result = kind(address_of(code))(me.region.start, me.region.pages, PAGE_BYTES, value)
    if result:
        raise CowtraceError(
            f"shadow stacks cannot be turned on: {result}", hint="please report this"
        )
