"""Generate Python source of the small processes that tests trace."""

from __future__ import annotations


def writes(pages: int) -> str:
    """Source that defines write(), which writes each page of a mapping, and has called it once.

    An anonymous mapping, so that nothing else is on its pages. Imports ctypes, os and sys.
    """
    return f"""
import ctypes, mmap, os, sys
memory = mmap.mmap(-1, {pages} << 12, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
def write():
    for page in range({pages}):
        memory[page << 12] = 1
write()
"""
