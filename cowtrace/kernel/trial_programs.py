"""Load programs of a few instructions to see whether this kernel supports a feature.

It takes a millisecond and no compiler. BCC's `support_kfunc()` only looks at symbols, and says yes
where the kernel refuses to load an fexit program.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cowtrace.kernel import programs
from cowtrace.kernel.btf import Btf
from cowtrace.kernel.programs import instruction, try_program
from cowtrace.libc import perf_event_open

_MOVE, _CALL, _EXIT = 0xB7, 0x85, 0x95
_RETURN_0 = instruction(_MOVE, to=0) + instruction(_EXIT)
_PERF_ATTR_BYTES = 72  # PERF_ATTR_SIZE_VER1
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


def kprobes_refused() -> str | None:
    """Why a kprobe cannot be opened; None if it can.

    By an event of a function that does not exist: permissions are checked before its name. On
    riscv64 then by one that does: without CONFIG_KPROBES_ON_FTRACE, which 6.12 lacks there, its
    kernel takes no kprobe where a function begins. It is not enabled.
    """
    try:
        # The perf event source by which kprobes are opened: no tracefs needed.
        kind = int(Path("/sys/bus/event_source/devices/kprobe/type").read_text())
    except OSError:
        return "kernel built without CONFIG_KPROBES"
    error = _open_kprobe(kind, b"cowtrace_no_function")
    if error in (errno.EACCES, errno.EPERM):
        return f"opening a kprobe: {os.strerror(error)} (sysctl kernel.perf_event_paranoid)"
    if os.uname().machine == "riscv64" and _open_kprobe(kind, b"do_wp_page") == errno.EINVAL:
        return "this kernel takes no kprobe where a function begins"
    return None


def _open_kprobe(kind: int, function: bytes) -> int:
    """Open a kprobe, not enabled, and close it. Returns the error number; 0: it was opened."""
    name = ctypes.create_string_buffer(function)
    event = struct.pack("<II48xQQ", kind, _PERF_ATTR_BYTES, ctypes.addressof(name), 0)
    try:
        os.close(perf_event_open(event, -1, 0))
    except OSError as error:
        return error.errno or 0
    return 0


def fexit_refused(btf: Btf, function: str, *, attach: bool = True) -> str | None:
    """Why an empty fexit program cannot be loaded for `function` or attached; None when it can.

    Without `attach` it is only loaded: to detach it can take a tenth of a second.
    """
    type_id = btf.function_id(function)
    if type_id is None:
        return f"BTF has no function {function}()"
    step = "loading"
    try:
        program = try_program(programs.TRACING, _RETURN_0, programs.FEXIT, type_id)
        with closing(os.fdopen(program)):
            step = "attaching"
            if attach:
                os.close(programs.open_raw_tracepoint(None, program))
    except OSError as error:
        number = error.errno or 0
        return f"{step} an fexit program: {error.strerror} ({errno.errorcode.get(number, number)})"
    return None
