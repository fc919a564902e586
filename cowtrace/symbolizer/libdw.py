"""Declare the functions of elfutils' libdw that unwind stacks and name addresses, for ctypes."""

from __future__ import annotations

import ctypes as c
from functools import cache
from typing import Any

from cowtrace.errors import CowtraceError

Word = c.c_uint64
Words = c.POINTER(Word)

# elfutils/libdwfl.h: Dwfl_Callbacks, Dwfl_Thread_Callbacks, callback of dwfl_getthread_frames
FindElf = c.CFUNCTYPE(c.c_int, *[c.c_void_p] * 3, Word, *[c.c_void_p] * 2)
FindDebugFile = c.CFUNCTYPE(
    c.c_int, *[c.c_void_p] * 3, Word, *[c.c_void_p] * 2, c.c_uint32, c.c_void_p
)
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
        ("find_elf", FindElf),
        ("find_debuginfo", FindDebugFile),
        ("section_address", c.c_void_p),
        ("debuginfo_path", c.c_void_p),
    )


_SIGNATURES = {
    "dwfl_begin": (c.c_void_p, (c.c_void_p,)),
    "dwfl_end": (None, (c.c_void_p,)),
    "dwfl_report_begin": (None, (c.c_void_p,)),
    "dwfl_report_begin_add": (None, (c.c_void_p,)),
    "dwfl_report_elf": (
        c.c_void_p,
        (c.c_void_p, c.c_char_p, c.c_char_p, c.c_int, Word, c.c_bool),
    ),
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
    "dwfl_module_addrname": (c.c_char_p, (c.c_void_p, Word)),
    "dwfl_module_build_id": (
        c.c_int,
        (c.c_void_p, c.POINTER(c.POINTER(c.c_ubyte)), c.POINTER(Word)),
    ),
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


# Each file is reported with its descriptor.
_NO_ELF = FindElf(lambda *_: -1)
WITHOUT_DEBUG_FILES = Callbacks(_NO_ELF, FindDebugFile(lambda *_: -1), None, None)


def callbacks(find_debug_file: Any) -> Callbacks:
    """With a FindDebugFile, which opens the debug file of a module."""
    return Callbacks(_NO_ELF, find_debug_file, None, None)
