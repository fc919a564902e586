"""A process that forges its return addresses cannot make two of its stacks count as one."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections import Counter

import pytest
from writers import PAGE

from cowtrace import tracer
from cowtrace.model import FaultKind
from cowtrace.tracer.filter import Filter
from cowtrace.workloads.region import REGION_END, REGION_START

pytestmark = [
    pytest.mark.host,
    pytest.mark.vm,
    pytest.mark.usefixtures("can_trace"),
    pytest.mark.spread("7.2"),
    pytest.mark.x86_64,  # it is machine code
]

TOP_BIT = 1 << 63
# A product changes in its top bit alone when a factor does: the second word takes that back.
PLAIN, FORGED = (0x1111, 0x2222), (0x1111 ^ TOP_BIT, 0x2222 ^ TOP_BIT)
OF_PLAIN, OF_FORGED = 53, 59
# push %rbp; mov %rdi, %rbp; movb $2, (%rsi); pop %rbp; ret
CODE = bytes.fromhex("55 48 89 fd c6 06 02 5d c3")


def chain(*returns: int) -> ctypes.Array[ctypes.c_char]:
    """Stack frames, one for each return address; the last one's frame pointer is 0."""
    frames = ctypes.create_string_buffer(16 * (len(returns) + 1))
    at = ctypes.addressof(frames)
    for index, address in enumerate(returns):
        struct.pack_into("<QQ", frames, 16 * index, at + 16 * (index + 1), address)
    return frames


def test_forged_stacks_are_two() -> None:
    memory = ctypes.CDLL(None)
    memory.mmap.restype = ctypes.c_void_p
    memory.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    size = (OF_PLAIN + OF_FORGED) * PAGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
    assert memory.mmap(REGION_START, size, 3, flags, -1, 0) == REGION_START
    memory.madvise(ctypes.c_void_p(REGION_START), ctypes.c_size_t(size), 15)  # MADV_NOHUGEPAGE
    ctypes.memset(REGION_START, 1, size)
    code = mmap.mmap(-1, PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(CODE)
    at = ctypes.addressof(ctypes.c_char.from_buffer(code))
    store = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(at)
    frames = [*[chain(*PLAIN)] * OF_PLAIN, *[chain(*FORGED)] * OF_FORGED]
    with tracer.attach(
        region=(REGION_START, REGION_END),
        details=frozenset({"stack"}),
        only=Filter(pids=(os.getpid(),), follow=True),
    ) as live:
        if not (child := os.fork()):
            for page, each in enumerate(frames):
                store(ctypes.addressof(each), REGION_START + page * PAGE)
            os._exit(0)
        os.waitpid(child, 0)
        found = Counter[tuple[int, ...]]()
        for row in live.snapshot().details:
            if row.pid == child and row.kind is FaultKind.COPIED:
                addresses = tuple(frame.address for frame in row.user_stack or ())
                found[addresses[1:3]] += row.faults
    memory.munmap(ctypes.c_void_p(REGION_START), ctypes.c_size_t(size))
    assert found == {PLAIN: OF_PLAIN, FORGED: OF_FORGED}
