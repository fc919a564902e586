"""What user space must know of the processor: registers as a sample holds them. bpf/arch.h's twin.

Page tables, and whether a word of registers is of user mode, are the BPF program's to know.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arch:
    """One architecture that cowtrace can trace on."""

    machine: str  # uname -m
    regs_words: int  # REGS_WORDS of bpf/arch.h: of struct pt_regs, those that user mode has
    dwarf_order: tuple[int, ...]  # words of it in DWARF's order, the instruction pointer last
    stack_pointer: int  # DWARF's number of it
    callee_saved: tuple[int, ...]  # DWARF's numbers of those that a function leaves as they were
    frame_pointer: int | None  # DWARF's number, where CPython's trampoline saves it: unwind.py
    pc_is_numbered: bool  # whether the instruction pointer has a DWARF number, the last one
    address_bits: int | None  # of a user address, above which a return address may be signed

    @property
    def instruction_pointer(self) -> int:
        """Its place in dwarf_order."""
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
        # Linux gives out no more unless it is asked for; pointer authentication uses the rest.
        address_bits=48,
    ),
}


def this() -> Arch:
    """The running machine's, x86-64's where it is unknown: no plan runs there (kernel.plan)."""
    return ARCHES.get(os.uname().machine, ARCHES["x86_64"])
