"""Load programs of a few instructions to see whether this kernel supports a feature.

It takes a millisecond and no compiler. BCC's `support_kfunc()` only looks at symbols, and says yes
where the kernel refuses to load an fexit program.
"""

from __future__ import annotations

import errno
import os
from contextlib import closing
from dataclasses import dataclass

from cowtrace.kernel import programs
from cowtrace.kernel.btf import Btf
from cowtrace.kernel.programs import instruction, try_program

_MOVE, _CALL, _EXIT = 0xB7, 0x85, 0x95
_RETURN_0 = instruction(_MOVE, to=0) + instruction(_EXIT)
_KFUNC = 2  # BPF_PSEUDO_KFUNC_CALL, as source register of _CALL


@dataclass(frozen=True, slots=True)
class Cast:
    """The BTF ids with which a program of this kernel calls bpf_rdonly_cast()."""

    function: int
    words: int  # struct pt_regs: unsigned longs, so a value loaded through it is a number


def rdonly_cast(btf: Btf) -> Cast | None:
    """None if kprobe programs cannot call bpf_rdonly_cast().

    With it, BPF programs of any kind load kernel memory directly, guarded by the kernel's fault
    handler, in a tenth of the instructions of bpf_probe_read_kernel(). "bpf: Add kfunc
    bpf_rdonly_cast", 6.2.
    """
    function, words = btf.function_id("bpf_rdonly_cast"), btf.struct_id("pt_regs")
    if function is None or words is None:
        return None
    program = (
        instruction(_MOVE, to=1)
        + instruction(_MOVE, to=2, immediate=words)
        + instruction(_CALL, source=_KFUNC, immediate=function)
        + _RETURN_0
    )
    try:
        os.close(try_program(programs.KPROBE, program))
    except OSError:
        return None
    return Cast(function, words)


def fexit_refused(btf: Btf, function: str) -> str | None:
    """Why an empty fexit program cannot be attached to `function`; None when it can."""
    type_id = btf.function_id(function)
    if type_id is None:
        return f"BTF has no function {function}()"
    step = "loading"
    try:
        program = try_program(programs.TRACING, _RETURN_0, programs.FEXIT, type_id)
        with closing(os.fdopen(program)):
            step = "attaching"
            os.close(programs.open_raw_tracepoint(None, program))
    except OSError as error:
        number = error.errno or 0
        return f"{step} an fexit program: {error.strerror} ({errno.errorcode.get(number, number)})"
    return None
