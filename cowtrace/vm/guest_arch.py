"""List what differs by the guest's architecture: QEMU's program, its machine and its processor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arch:
    """A Debian architecture that a guest can have."""

    debian: str  # Debian's name, as in kernels.toml
    machine: str  # uname -m
    elf_machine: int  # e_machine: include/uapi/linux/elf-em.h
    qemu: str  # the program that emulates this machine
    board: tuple[str, ...]  # QEMU's arguments for it
    emulation: str  # -accel, without KVM
    cpu: str  # -cpu, without KVM
    console: str  # the kernel's name of the serial port
    append: str  # kernel parameters


ARCHES: Mapping[str, Arch] = {
    "amd64": Arch(
        "amd64",
        "x86_64",
        62,
        "qemu-system-x86_64",
        board=(),
        # One thread for all of the guest's CPUs: with a thread each, a CPU can run code while
        # another patches it, and 7.2 then stops now and then with "Oops: int3".
        emulation="tcg,thread=single",
        # xsave=off disables AVX: BCC's compiler takes half as long again when AVX is emulated.
        # 7.2 reads the AVX flag alone (polyval_mul_pclmul_avx: invalid opcode at boot), so
        # avx=off clears that too.
        cpu="max,xsave=off,avx=off",
        console="ttyS0",
        # /dev/pmem0, once nd_e820 and nd_pmem are loaded.
        append="memmap=32M!1G",
    ),
    "arm64": Arch(
        "arm64",
        "aarch64",
        183,
        "qemu-system-aarch64",
        board=("-machine", "virt"),
        emulation="tcg,thread=multi",
        # Half of all emulation time goes to the architecture's algorithm for pointer
        # authentication; QEMU's own is enough here. No SVE, for the reason of AVX above.
        cpu="max,pauth-impdef=on,sve=off",
        console="ttyAMA0",
        append="",
    ),
    "riscv64": Arch(
        "riscv64",
        "riscv64",
        243,
        "qemu-system-riscv64",
        board=("-machine", "virt"),
        emulation="tcg,thread=multi",
        cpu="rv64",  # with page tables of five levels; kernel parameter no4lvl: of three
        console="ttyS0",
        # Off by default on this architecture; interpreted programs are slower still.
        append="sysctl.net.core.bpf_jit_enable=1",
    ),
}


def of(debian: str) -> Arch:
    """The architecture of this Debian name. Raises ValueError for an unknown one."""
    if debian not in ARCHES:
        raise ValueError(f"'{debian}' is no architecture of {', '.join(ARCHES)}")
    return ARCHES[debian]


def native() -> Arch | None:
    """This machine's architecture; None when no guest can have it."""
    machine = os.uname().machine
    return next((arch for arch in ARCHES.values() if arch.machine == machine), None)
