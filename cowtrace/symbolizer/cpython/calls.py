"""Tell which function a return address comes back from, by the call in front of it."""

from __future__ import annotations

from cowtrace.symbolizer.cpython.memory import Memory, UnreadableError

_CALL_BYTES = 5  # of x86-64: call rel32
_CALL = 0xE8
_BRANCH_WITH_LINK = 0b100101  # upper bits of arm64's `bl`; 26 bits of distance in words follow
_WORD_BYTES = 4


def calls(memory: Memory, back: int, function: int) -> bool:
    """Whether the instruction in front of a return address calls `function` directly.

    A call through a pointer or a table of them is none. Reads the code of the process.
    """
    try:
        code = memory.bytes_at(back - _CALL_BYTES, _CALL_BYTES)
    except UnreadableError:
        return False
    distance = int.from_bytes(code[1:], "little", signed=True)
    if code[0] == _CALL and back + distance == function:
        return True
    instruction = int.from_bytes(code[1:], "little")
    words = (instruction & (1 << 26) - 1 ^ 1 << 25) - (1 << 25)
    start = back - _WORD_BYTES
    return instruction >> 26 == _BRANCH_WITH_LINK and start + _WORD_BYTES * words == function
