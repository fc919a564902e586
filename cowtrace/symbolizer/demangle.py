"""Write C++ names as their source has them, by the C++ library."""

from __future__ import annotations

import ctypes as c
from functools import cache

from cowtrace.libc import libc


def demangled(name: bytes) -> bytes:
    """A C++ name as its source has it; others as they are."""
    if not name.startswith(b"_Z") or (library := cxx()) is None:
        return name
    found = library.__cxa_demangle(name, None, None, c.byref(c.c_int()))
    if not found:
        return name
    text = c.string_at(found)
    libc().free(c.c_void_p(found))
    return text


@cache
def cxx() -> c.CDLL | None:
    """The C++ library, which is wherever BCC is; without it, names stay as they are."""
    try:
        library = c.CDLL("libstdc++.so.6")
    except OSError:
        return None
    library.__cxa_demangle.restype = c.c_void_p
    library.__cxa_demangle.argtypes = (c.c_char_p, c.c_void_p, c.c_void_p, c.POINTER(c.c_int))
    return library
