"""Read kernel memory with BPF programs that run once, before any probe is attached."""

from __future__ import annotations

import os
from contextlib import closing

from cowtrace.kernel.programs import RAW_TRACEPOINT, instruction, run_once, try_program

_CURRENT_TASK, _PROBE_READ_KERNEL = 35, 113  # enum bpf_func_id
_MOVE, _MOVE_REGISTER, _ADD, _SHIFT_RIGHT = 0xB7, 0xBF, 0x07, 0x77
_LOAD_64, _LOAD_U32, _STORE_U32, _CALL, _EXIT = 0x18, 0x61, 0x63, 0x85, 0x95


def read_u32(address: int) -> int:
    """0 where nothing is mapped. Raises OSError if this process may not run such programs."""
    return _run(
        instruction(_MOVE, to=1)
        + instruction(_STORE_U32, to=10, source=1, offset=-4)  # zero it
        + instruction(_MOVE_REGISTER, to=1, source=10)
        + instruction(_ADD, to=1, immediate=-4)
        + instruction(_MOVE, to=2, immediate=4)
        + instruction(_LOAD_64, to=3, immediate=address & 0xFFFFFFFF)
        + instruction(0, immediate=address >> 32)
        + instruction(_CALL, immediate=_PROBE_READ_KERNEL)
        + instruction(_LOAD_U32, to=0, source=10, offset=-4)
    )


def read_u64(address: int) -> int:
    """Like read_u32(), in two reads: only for values that do not change."""
    return read_u32(address) | read_u32(address + 4) << 32


def current_task() -> int:
    """Address of this thread's struct task_struct. Raises OSError as read_u32()."""
    call = instruction(_CALL, immediate=_CURRENT_TASK)
    return _run(call) | _run(call + instruction(_SHIFT_RIGHT, to=0, immediate=32)) << 32


def _run(code: bytes) -> int:
    program = try_program(RAW_TRACEPOINT, code + instruction(_EXIT))
    with closing(os.fdopen(program)):
        return run_once(program)
