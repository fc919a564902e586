"""Declare the functions of elfutils' libdw that unwind stacks, for ctypes."""

from __future__ import annotations

import ctypes as c
from functools import cache

from cowtrace.errors import CowtraceError

Word = c.c_uint64
Words = c.POINTER(Word)

# elfutils/libdwfl.h: Dwfl_Thread_Callbacks, and the callback of dwfl_getthread_frames
NextThread = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_void_p)
GetThread = c.CFUNCTYPE(c.c_bool, c.c_void_p, c.c_int, c.c_void_p, c.POINTER(c.c_void_p))
MemoryRead = c.CFUNCTYPE(c.c_bool, c.c_void_p, Word, Words, c.c_void_p)
SetRegisters = c.CFUNCTYPE(c.c_bool, c.c_void_p, c.c_void_p)
EachFrame = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p)


class ThreadCallbacks(c.Structure):
    _fields_ = (
        ("next_thread", NextThread),
        ("get_thread", GetThread),
        ("memory_read", MemoryRead),
        ("set_initial_registers", SetRegisters),
        ("detach", c.c_void_p),
        ("thread_detach", c.c_void_p),
    )


class Callbacks(c.Structure):
    _fields_ = (
        ("find_elf", c.c_void_p),
        ("find_debuginfo", c.c_void_p),
        ("section_address", c.c_void_p),
        ("debuginfo_path", c.c_void_p),
    )


_SIGNATURES = {
    "dwfl_begin": (c.c_void_p, (c.c_void_p,)),
    "dwfl_end": (None, (c.c_void_p,)),
    "dwfl_report_begin": (None, (c.c_void_p,)),
    "dwfl_linux_proc_report": (c.c_int, (c.c_void_p, c.c_int)),
    "dwfl_report_end": (c.c_int, (c.c_void_p, c.c_void_p, c.c_void_p)),
    "dwfl_attach_state": (
        c.c_bool,
        (c.c_void_p, c.c_void_p, c.c_int, c.POINTER(ThreadCallbacks), c.c_void_p),
    ),
    "dwfl_getthread_frames": (c.c_int, (c.c_void_p, c.c_int, EachFrame, c.c_void_p)),
    "dwfl_frame_pc": (c.c_bool, (c.c_void_p, Words, c.POINTER(c.c_bool))),
    "dwfl_frame_reg": (c.c_int, (c.c_void_p, c.c_uint, Words)),
    "dwfl_thread_state_registers": (c.c_bool, (c.c_void_p, c.c_int, c.c_uint, Words)),
    "dwfl_thread_state_register_pc": (None, (c.c_void_p, Word)),
    "dwfl_addrmodule": (c.c_void_p, (c.c_void_p, Word)),
}


@cache
def libdw() -> c.CDLL:
    """The loaded library.

    Raises:
        CowtraceError: it is not installed, or older than 0.188.
    """
    try:
        library = c.CDLL("libdw.so.1")
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise CowtraceError(
            f"cannot unwind stacks with libdw: {error}",
            hint="install it: apt install libdw1; or use frame pointers instead",
        ) from None
    return library


def file_callbacks() -> Callbacks:
    """Callbacks by which libdw finds the files of a process and their debug information."""
    library = libdw()
    return Callbacks(
        c.cast(library.dwfl_linux_proc_find_elf, c.c_void_p),
        c.cast(library.dwfl_standard_find_debuginfo, c.c_void_p),
        None,
        None,
    )
