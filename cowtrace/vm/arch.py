"""What a guest's architecture decides: QEMU's program and machine, and how to install for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arch:
    """One of Debian's architectures, as a guest."""

    debian: str  # Debian's name, as in kernels.toml
    machine: str  # uname -m
    qemu: str  # the program that runs a whole machine
    board: tuple[str, ...]  # QEMU's arguments for it
    emulation: str  # -accel, without KVM
    cpu: str  # -cpu, without KVM
    console: str  # the kernel's name of the serial port


ARCHES: Mapping[str, Arch] = {
    "amd64": Arch(
        "amd64",
        "x86_64",
        "qemu-system-x86_64",
        board=(),
        # One thread for all of the guest's CPUs: with one each, a CPU can run code that another
        # is just patching, and 7.2 then stops with "Oops: int3" now and then.
        emulation="tcg,thread=single",
        # xsave=off leaves out AVX: emulating it makes BCC's compiler half as slow again. 7.2
        # believes the AVX flag alone (polyval_mul_pclmul_avx: invalid opcode at boot), so that
        # goes as well.
        cpu="max,xsave=off,avx=off",
        console="ttyS0",
    ),
    "arm64": Arch(
        "arm64",
        "aarch64",
        "qemu-system-aarch64",
        board=("-machine", "virt"),
        emulation="tcg,thread=multi",
        # The architecture's own way to sign pointers costs half of all emulation; any way will
        # do. No SVE: like AVX above.
        cpu="max,pauth-impdef=on,sve=off",
        console="ttyAMA0",
    ),
}


def of(debian: str) -> Arch:
    """By Debian's name. Raises ValueError for one that is not known."""
    if debian not in ARCHES:
        raise ValueError(f"'{debian}' is no architecture of {', '.join(ARCHES)}")
    return ARCHES[debian]


def native() -> Arch | None:
    """This machine's; None when no guest is like it."""
    machine = os.uname().machine
    return next((arch for arch in ARCHES.values() if arch.machine == machine), None)
