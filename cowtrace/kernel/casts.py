"""Does this kernel take bpf_rdonly_cast()? Tried with a program of four instructions.

With it BPF programs of any kind load kernel memory themselves, checked by the fault handler, where
they otherwise call bpf_probe_read_kernel(): a tenth of the instructions. "bpf: Add kfunc
bpf_rdonly_cast", 6.2.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from cowtrace.kernel.btf import Btf
from cowtrace.kernel.programs import KPROBE, instruction, try_program

_MOVE, _CALL, _EXIT = 0xB7, 0x85, 0x95
_KFUNC = 2  # BPF_PSEUDO_KFUNC_CALL, as source register of _CALL


@dataclass(frozen=True, slots=True)
class Cast:
    """How a program calls it: BTF ids of this kernel."""

    function: int
    words: int  # struct pt_regs: unsigned longs, so whatever is loaded through it is a number


def rdonly_cast(btf: Btf) -> Cast | None:
    """None where kprobe programs cannot call it."""
    function, words = btf.function_id("bpf_rdonly_cast"), btf.struct_id("pt_regs")
    if function is None or words is None:
        return None
    program = (
        instruction(_MOVE, to=1)
        + instruction(_MOVE, to=2, immediate=words)
        + instruction(_CALL, source=_KFUNC, immediate=function)
        + instruction(_MOVE, to=0)
        + instruction(_EXIT)
    )
    try:
        os.close(try_program(KPROBE, program))
    except OSError:
        return None
    return Cast(function, words)
