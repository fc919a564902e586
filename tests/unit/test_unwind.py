"""A dump of a thread: its words, and stepping over code that no file describes."""

from __future__ import annotations

import ctypes
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from symbolizing import files, open_by_path, traced

from cowtrace.errors import CowtraceError
from cowtrace.kernel.arch import ARCHES
from cowtrace.symbolizer import unwind
from cowtrace.symbolizer.libdw import libdw
from cowtrace.symbolizer.traced_process import TracedProcess
from cowtrace.symbolizer.unwind import Dump, Unwinder

SP, IP = 7, 16


def dump(stack: bytes = b"", sp: int = 0x7000, ip: int = 0) -> Dump:
    regs = [0] * 17
    regs[SP], regs[IP] = sp, ip
    return Dump(tuple(regs), stack)


def never(address: int) -> bool:
    return False


@given(st.integers(0, 2**64 - 1), st.binary(max_size=64))
def test_only_what_was_kept_of_a_stack_is_read(address: int, stack: bytes) -> None:
    word = dump(stack).word(address)
    at = address - 0x7000
    if at >= 0 and at + 8 <= len(stack):
        assert word == struct.unpack_from("<Q", stack, at)[0]
    else:
        assert word is None


def test_registers_come_in_dwarfs_order() -> None:
    pt_regs = tuple(range(100, 121))
    found = Dump.of(pt_regs, b"").regs
    assert len(found) == 17
    assert (found[0], found[6], found[SP], found[IP]) == (110, 104, 119, 116)  # ax, bp, sp, ip


@pytest.fixture
def sleeper() -> object:
    try:
        libdw()
    except CowtraceError as error:
        pytest.skip(str(error))
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def where(pid: int) -> tuple[int, int]:
    """Stack pointer and program counter of a process that sleeps in a system call."""
    for _ in range(10_000):
        with open(f"/proc/{pid}/syscall") as file:  # noqa: PTH123
            fields = file.read().split()
        if fields[0] == "230":  # clock_nanosleep
            return int(fields[-2], 16), int(fields[-1], 16)
    pytest.fail("it does not sleep")


def memory(pid: int, address: int, length: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", 0) as file:  # noqa: PTH123
        file.seek(address)
        return file.read(length)


def test_a_program_without_frame_pointers_is_unwound_to_its_start(sleeper: int) -> None:
    """Every address found lies behind a call in executable memory of the process."""
    sp, ip = where(sleeper)
    unwinder = Unwinder(traced(sleeper))
    found = unwinder.addresses(dump(memory(sleeper, sp, 1024), sp, ip), never, open_by_path)
    assert found[0] == ip
    assert len(found) >= 4  # clock_nanosleep, main's, __libc_start_main, _start
    assert all(unwinder.is_mapped(address) for address in found)
    unwinder.close()
    unwinder.close()


def test_a_stack_that_was_not_kept_still_says_where_it_was(sleeper: int) -> None:
    sp, ip = where(sleeper)
    unwinder = Unwinder(traced(sleeper))
    assert unwinder.addresses(dump(b"", sp, ip), never, open_by_path)[0] == ip
    unwinder.close()


def test_a_process_that_is_gone_leaves_where_it_was() -> None:
    unwinder = Unwinder(TracedProcess(files()))
    assert unwinder.addresses(dump(b"\0" * 64, 0x7000, 0x1234), never, open_by_path) == (0x1234,)
    unwinder.close()


def test_a_trampoline_is_stepped_over(sleeper: int) -> None:
    """A made-up one: eight bytes of its own, then the address it returns to."""
    sp, ip = where(sleeper)
    caller = dump(memory(sleeper, sp, 1024), sp, ip)
    jit = 0x10000  # below mmap_min_addr: nothing is there
    unwinder = Unwinder(traced(sleeper))
    plain = unwinder.addresses(caller, never, open_by_path)
    stack = struct.pack("<QQ", 0, ip) + caller.stack
    regs = [*caller.regs]
    regs[SP], regs[IP] = sp - 16, jit
    through = unwinder.addresses(
        Dump(tuple(regs), stack), lambda address: address == jit - 1, open_by_path
    )
    assert through == (jit, *plain)
    unwinder.close()


def test_arm64s_registers_come_in_dwarfs_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwind, "_ARCH", ARCHES["aarch64"])
    found = Dump.of(tuple(range(100, 134)), b"").regs
    assert found == tuple(range(100, 133))  # x0...x30, sp, pc


def test_riscv64s_registers_come_in_dwarfs_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwind, "_ARCH", ARCHES["riscv64"])
    found = Dump.of(tuple(range(100, 133)), b"").regs  # epc, x1...x31, status
    assert found[1:32] == tuple(range(101, 132))
    assert found[ARCHES["riscv64"].instruction_pointer] == 100


def test_a_return_address_loses_its_signature(
    sleeper: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one that then lies in a file of the process; and on x86-64 nothing is signed."""
    _, ip = where(sleeper)
    unwinder = Unwinder(traced(sleeper))
    unwinder.addresses(dump(ip=ip), never, open_by_path)  # libdw gets to know the file
    signed, other = 0x2D << 48 | ip, 0x2D << 48 | 0x1000
    assert unwinder._unsigned(signed) == signed
    monkeypatch.setattr(unwind, "_ARCH", ARCHES["aarch64"])
    assert unwinder._unsigned(signed) == unwinder._unsigned(ip) == ip
    assert unwinder._unsigned(other) == other
    assert unwind._bare(other) == 0x1000  # where it is known to be a return address
    unwinder.close()


def test_the_structs_are_as_long_as_the_librarys() -> None:
    from cowtrace.symbolizer.libdw import Callbacks, ThreadCallbacks

    pointer = ctypes.sizeof(ctypes.c_void_p)
    assert ctypes.sizeof(ThreadCallbacks) == 6 * pointer
    assert ctypes.sizeof(Callbacks) == 4 * pointer
