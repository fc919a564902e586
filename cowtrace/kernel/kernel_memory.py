"""Read kernel memory with BPF programs that run once, before any probe is attached."""

from __future__ import annotations

import os
from contextlib import closing

from cowtrace.kernel.programs import RAW_TRACEPOINT, instruction, run_once, try_program

_CURRENT_TASK, _PROBE_READ_KERNEL = 35, 113  # enum bpf_func_id
_MOVE, _MOVE_REGISTER, _ADD, _SHIFT_RIGHT = 0xB7, 0xBF, 0x07, 0x7F
_LOAD_64, _STORE_64, _CALL, _EXIT = 0x79, 0x7B, 0x85, 0x95
# The first argument is an address. The second says which half of the result is returned.
_KEEP_HALF = instruction(_LOAD_64, to=6, source=1, offset=8)
_RETURN_HALF = instruction(_SHIFT_RIGHT, to=0, source=6) + instruction(_EXIT)


def read_u32(address: int) -> int:
    """0 where nothing is mapped. Raises OSError if this process may not run such programs."""
    return _run(_reading(4), address)


def read_u64(address: int) -> int:
    """Like read_u32(), in two reads: only for values that do not change."""
    return _run(_reading(8), address)


def current_task() -> int:
    """Address of this thread's struct task_struct. Raises OSError as read_u32()."""
    return _run(instruction(_CALL, immediate=_CURRENT_TASK), 0)


def _reading(size: int) -> bytes:
    return (
        instruction(_LOAD_64, to=3, source=1)
        + instruction(_MOVE, to=1)
        + instruction(_STORE_64, to=10, source=1, offset=-8)  # zero it
        + instruction(_MOVE_REGISTER, to=1, source=10)
        + instruction(_ADD, to=1, immediate=-8)
        + instruction(_MOVE, to=2, immediate=size)
        + instruction(_CALL, immediate=_PROBE_READ_KERNEL)
        + instruction(_LOAD_64, to=0, source=10, offset=-8)
    )


def _run(code: bytes, address: int) -> int:
    """A program returns 32 bits: it runs once for each half."""
    program = try_program(RAW_TRACEPOINT, _KEEP_HALF + code + _RETURN_HALF)
    with closing(os.fdopen(program)):
        return run_once(program, address, 0) | run_once(program, address, 32) << 32
