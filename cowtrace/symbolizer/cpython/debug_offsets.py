"""Read `_Py_DebugOffsets`: from 3.13 on, each CPython process has a table of its own layout.

It is the first member of `_PyRuntime`. It lacks `interpreters.main`, the generations of the garbage
collector, most of PyTypeObject, the content of dictionaries and the flags of types: these are of
`tables.py`.
"""

from __future__ import annotations

import dataclasses

from cowtrace.symbolizer.cpython.memory import WORD_BYTES, Memory, UnreadableError
from cowtrace.symbolizer.cpython.offsets import POINTER_BYTES, Layout

COOKIE = b"xdebugpy"
_VERSION = 8
_FREE_THREADED = 16
_LARGEST_OFFSET = 1 << 24  # the structs of 3.14 have less than 1 MiB

# Members of Layout, and where the table has them. Include/internal/pycore_runtime.h of 3.13.0 and
# 3.13.5, Include/internal/pycore_debug_offsets.h of 3.14.8.
_MEMBERS_3_13 = {
    "finalizing": 32,
    "threads_head": 72,
    "gc": 80,
    "interpreter_gil": 112,
    "thread_interp": 176,
    "thread_id": 192,
    "native_thread_id": 200,
    "frame_previous": 232,
    "frame_code": 240,
    "frame_instruction": 248,
    "frame_owner": 264,
    "co_filename": 280,
    "co_name": 288,
    "co_qualname": 296,
    "co_linetable": 304,
    "co_firstlineno": 312,
    "co_code_adaptive": 344,
    "ob_type": 360,
    "type_bytes": 368,
    "tp_name": 376,
    "tp_flags": 392,
    "ma_keys": 456,
    "ma_values": 464,
    "ob_size": 520,
    "ob_sval": 528,
    "unicode_state": 544,
    "unicode_length": 552,
    "ascii_bytes": 560,
    "gc_collecting": 576,
}
_MEMBERS_3_14 = {
    "finalizing": 32,
    "threads_head": 72,
    "gc": 88,
    "interpreter_gil": 120,
    "thread_interp": 200,
    "thread_id": 216,
    "native_thread_id": 224,
    "frame_previous": 256,
    "frame_code": 264,
    "frame_instruction": 272,
    "frame_owner": 288,
    "co_filename": 320,
    "co_name": 328,
    "co_qualname": 336,
    "co_linetable": 344,
    "co_firstlineno": 352,
    "co_code_adaptive": 384,
    "ob_type": 408,
    "type_bytes": 416,
    "tp_name": 424,
    "tp_flags": 440,
    "ma_keys": 536,
    "ma_values": 544,
    "ob_size": 600,
    "ob_sval": 608,
    "unicode_state": 624,
    "unicode_length": 632,
    "ascii_bytes": 640,
    "gc_collecting": 656,
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Positions:
    """Where one version's table has what."""

    members: dict[str, int]
    current_frame: int  # of the thread state
    interpreters_head: int
    gil: tuple[int, int]  # of the interpreter: its GIL, and that GIL's last holder
    bytes: int  # sizeof(_Py_DebugOffsets)


_POSITIONS = {
    13: _Positions(_MEMBERS_3_13, 184, 40, (120, 144), 584),
    14: _Positions(_MEMBERS_3_14, 208, 40, (128, 152), 760),
}


def version_and_threading(memory: Memory, runtime: int) -> tuple[int, bool] | None:
    """(PY_VERSION_HEX, free-threaded) of the table at `_PyRuntime`; None: there is none."""
    try:
        head = memory.bytes_at(runtime, _FREE_THREADED + WORD_BYTES)
    except UnreadableError:
        return None
    if not head.startswith(COOKIE):
        return None
    version = int.from_bytes(head[_VERSION:_FREE_THREADED], "little")
    return version, any(head[_FREE_THREADED:])


def with_debug_offsets(table: Layout, memory: Memory, runtime: int) -> Layout | None:
    """A version's layout with the offsets that this process has. None: they are implausible."""
    positions = _POSITIONS[table.minor]
    try:
        data = memory.bytes_at(runtime, positions.bytes)
    except UnreadableError:
        return None

    def at(position: int) -> int:
        return int.from_bytes(data[position : position + WORD_BYTES], "little")

    found = {name: at(position) for name, position in positions.members.items()}
    gil, holder = (at(position) for position in positions.gil)
    found["gil_last_holder"] = holder - gil
    # struct pyinterpreters: head, main
    found["interpreters_main"] = at(positions.interpreters_head) + POINTER_BYTES
    frame = at(positions.current_frame)
    if not all(0 <= offset < _LARGEST_OFFSET for offset in (*found.values(), frame)):
        return None
    return dataclasses.replace(table, thread_frame=(frame,), **found)
