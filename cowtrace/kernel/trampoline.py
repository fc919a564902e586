"""Does this kernel take an fexit program? Tried with an empty one: a millisecond, not a compile.

BCC's `support_kfunc()` looks at symbols and says yes where loading is refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import closing

from cowtrace.kernel.btf import Btf
from cowtrace.kernel.libbpf import libbpf

# include/uapi/linux/bpf.h
_PROG_TYPE_TRACING = 26
_TRACE_FEXIT = 25
# r0 = 0; exit
_RETURN_0 = bytes((0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0))


class _LoadOptions(ctypes.Structure):
    """The head of libbpf's struct bpf_prog_load_opts; `sz` says how much of it there is."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_uint),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
    )


def fexit_refused(btf: Btf, function: str) -> str | None:
    """Why an empty fexit program cannot be attached to `function`; None when it can."""
    type_id = btf.function_id(function)
    if type_id is None:
        return f"BTF has no function {function}()"
    lib = libbpf()
    options = _LoadOptions(
        sz=ctypes.sizeof(_LoadOptions), expected_attach_type=_TRACE_FEXIT, attach_btf_id=type_id
    )
    program = lib.bpf_prog_load(
        _PROG_TYPE_TRACING, b"trial", b"GPL", _RETURN_0, 2, ctypes.byref(options)
    )
    if program < 0:
        return f"loading an fexit program: {_reason()}"
    with closing(os.fdopen(program)):
        link = lib.bpf_raw_tracepoint_open(None, program)
        if link < 0:
            return f"attaching an fexit program: {_reason()}"
        os.close(link)
    return None


def _reason() -> str:
    number = ctypes.get_errno()
    return f"{os.strerror(number)} ({errno.errorcode.get(number, number)})"
