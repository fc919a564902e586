"""Find the memory layout of the CPython in a process, and check it there."""

from __future__ import annotations

import dataclasses

from cowtrace.symbolizer.cpython.debug_offsets import version_and_threading, with_debug_offsets
from cowtrace.symbolizer.cpython.memory import WORD_BYTES, Memory, Read, UnreadableError
from cowtrace.symbolizer.cpython.offsets import Layout
from cowtrace.symbolizer.cpython.tables import TABLES

__all__ = ["Layout", "confirmed", "generations_found", "layout_of", "minor_of"]

_MAJOR = 3
_WITH_DEBUG_OFFSETS = 13
_GENERATIONS = 3
# gc_generations, after which struct gc_generation is aligned to 8 bytes, or to 4: PyGC_Head has
# Py_ALIGNED(1 << _PyObject_ALIGNMENT_SHIFT) in some releases of 3.13, as in 3.13.5.
_OFFSETS_OF_GENERATIONS = (24, 20)
_POINTER_OF_GC_PREV = ~3  # without _PyGC_PREV_MASK_FINALIZED and _PyGC_PREV_MASK_COLLECTING


def minor_of(version_hex: int) -> int | None:
    """11 of 0x030b02f0, CPython 3.11.2; None: not a version 3."""
    return version_hex >> 16 & 0xFF if version_hex >> 24 == _MAJOR else None


def layout_of(version_hex: int, read: Read, runtime_address: int) -> Layout | None:
    """The layout of that version, `_PyRuntime` being at that address.

    None: the version is unknown, or what the process says of its layout is implausible, or it is
    another version, or free-threaded.
    """
    table = TABLES.get(minor_of(version_hex) or 0)
    if table is None or table.minor < _WITH_DEBUG_OFFSETS:
        return table
    memory = Memory(read)
    if version_and_threading(memory, runtime_address) != (version_hex, False):
        return None
    return with_debug_offsets(table, memory, runtime_address)


def confirmed(memory: Memory, layout: Layout, type_type: int, interpreter: int) -> bool:
    """Whether `type` at that address and the interpreter there look as the layout says."""
    try:
        if memory.word(type_type + layout.ob_type) != type_type:
            return False
        if memory.signed(type_type + layout.tp_basicsize) != layout.heap_type_bytes:
            return False
        if memory.c_string(memory.word(type_type + layout.tp_name), 5) != "type":
            return False
        thread = memory.word(interpreter + layout.threads_head)
        # While it starts and while it ends, the interpreter has no thread.
        return thread == 0 or memory.word(thread + layout.thread_interp) == interpreter
    except UnreadableError:
        return False


def generations_found(memory: Memory, layout: Layout, interpreter: int) -> Layout:
    """With the offset of the generations at which the process has linked lists.

    Unchanged, where no list is intact: a collection changes the links of the generation that it
    collects.
    """
    for offset in (layout.gc_generations, *_OFFSETS_OF_GENERATIONS):
        first = interpreter + layout.gc + offset
        if any(
            _linked(memory, first + generation * layout.gc_generation_bytes)
            for generation in range(_GENERATIONS)
        ):
            return dataclasses.replace(layout, gc_generations=offset)
    return layout


def _linked(memory: Memory, head: int) -> bool:
    """Whether a PyGC_Head is the head of a list: its first member points back to it."""
    try:
        first, last = memory.word(head), memory.word(head + WORD_BYTES) & _POINTER_OF_GC_PREV
        before = memory.word(first + WORD_BYTES) & _POINTER_OF_GC_PREV
        return before == head and memory.word(last) == head
    except UnreadableError:
        return False
