"""Describe the registers in a sample, for each architecture: bpf/arch.h for user space.

BPF programs alone know page tables, and whether registers are of user mode.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arch:
    """One architecture that cowtrace can trace on."""

    machine: str  # uname -m
    regs_words: int  # REGS_WORDS of bpf/arch.h: the part of struct pt_regs for user mode
    dwarf_order: tuple[int, ...]  # index of each word, in DWARF's order; last the IP
    stack_pointer: int  # DWARF's number
    callee_saved: tuple[int, ...]  # DWARF's numbers of the registers that a function restores
    frame_pointer: int | None  # DWARF's number, if CPython's trampoline saves it: unwind.py
    pc_is_numbered: bool  # the instruction pointer has a DWARF number, the last one
    address_bits: int | None  # of a user address; above them, a return address may be signed

    @property
    def instruction_pointer(self) -> int:
        """Its index in dwarf_order."""
        return len(self.dwarf_order) - 1


ARCHES: Mapping[str, Arch] = {
    "x86_64": Arch(
        "x86_64",
        regs_words=21,
        # ax dx cx bx si di bp sp r8...r15 ip
        dwarf_order=(10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16),
        stack_pointer=7,
        callee_saved=(3, 6, 12, 13, 14, 15),  # bx, bp, r12...r15
        frame_pointer=None,
        pc_is_numbered=True,
        address_bits=None,
    ),
    "aarch64": Arch(
        "aarch64",
        regs_words=34,
        dwarf_order=tuple(range(33)),  # x0...x30 sp pc; pstate is left out
        stack_pointer=31,
        callee_saved=tuple(range(19, 30)),  # x19...x28, x29: the frame pointer
        frame_pointer=29,
        pc_is_numbered=False,
        # Linux maps no higher unless a program requests it; pointer authentication uses the rest.
        address_bits=48,
    ),
    "riscv64": Arch(
        "riscv64",
        regs_words=33,
        # x0, which is always 0 and which no table asks for, has no word: that of the IP stands
        # for it. Then x1...x31, and the IP, whose word is the first.
        dwarf_order=(*range(32), 0),
        stack_pointer=2,
        callee_saved=(8, 9, *range(18, 28)),  # s0 (the frame pointer), s1, s2...s11
        frame_pointer=None,
        pc_is_numbered=False,
        address_bits=None,
    ),
}


def this() -> Arch:
    """The running machine's; x86-64's on an unknown machine, where no plan runs (kernel.plan)."""
    return ARCHES.get(os.uname().machine, ARCHES["x86_64"])
