"""Python source of the small processes that tests trace."""

from __future__ import annotations


def writes(pages: int) -> str:
    """Defines write(), to each page of memory of its own, and has written it once.

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
