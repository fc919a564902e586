"""Frames of Python take the places of the interpreter's own."""

from __future__ import annotations

from cowtrace.symbolizer.cpython.calls import calls
from cowtrace.symbolizer.cpython.code import CodePlace
from cowtrace.symbolizer.cpython.memory import Memory
from cowtrace.symbolizer.cpython.mixed_stack import mixed_stack

EVAL = "_PyEval_EvalFrameDefault"
ENTRY_3_11, SHIM_3_12, SHIM_3_14, INNER = 1, 3 << 8, 4 << 8, 0
Python = list[tuple[int, int, int]]


def place(code: int, instruction: int) -> CodePlace | None:
    """Of code 1 to 22: a function of that name."""
    if code == 22:
        return CodePlace("__init__", "__init__", None, 1)  # which CPython hides
    return CodePlace(f"f{code}", "a.py", instruction, 1) if code < 22 else None


def mixed(native: list[str], python: Python, minor: int, called: tuple[int, ...] = ()) -> list[str]:
    """Of frames of C by their names, whose addresses are 100, 101...; short names of Python's."""
    frames = [(name, "libpython.so", 100 + at) for at, name in enumerate(native)]
    found = mixed_stack(frames, python, minor, place, called.__contains__)
    return [
        name.removeprefix("py::").removesuffix(":a.py") + (f":{line}" if line is not None else "")
        for name, _, _, line in found
    ]


def test_until_3_10_each_call_runs_one_frame() -> None:
    native = ["dict_insert", EVAL, "call_function", EVAL, "PyEval_EvalCode", "main"]
    assert mixed(native, [(1, 11, 77), (2, 22, 1 << 10)], 10) == [
        *("dict_insert", "f1:11", "call_function", "f2:22", "PyEval_EvalCode", "main")
    ]


def test_in_3_11_a_call_ends_with_its_entry_frame() -> None:
    python = [(1, 11, INNER), (2, 22, ENTRY_3_11), (3, 33, ENTRY_3_11)]
    assert mixed([EVAL, "list_sort", EVAL, "main"], python, 11) == [
        *("f1:11", "f2:22", "list_sort", "f3:33", "main")
    ]


def test_since_3_12_a_call_ends_with_a_frame_without_code() -> None:
    for minor, shim in ((12, SHIM_3_12), (13, SHIM_3_12), (14, SHIM_3_14), (14, SHIM_3_12)):
        python = [(1, 11, 0x7F), (2, 22, 1 << 8), (99, 0, shim), (3, 33, 0), (99, 0, shim)]
        assert mixed([EVAL, "list_sort", EVAL, "main"], python, minor) == [
            *("f1:11", "f2:22", "list_sort", "f3:33", "main")
        ]


def test_a_call_that_has_left_its_frame_keeps_its_place() -> None:
    """It frees what the frame had, while the innermost frame of Python is its caller's."""
    python = [(99, 0, SHIM_3_12), (3, 33, 0), (99, 0, SHIM_3_12)]
    native = ["list_dealloc", EVAL, "list_sort", EVAL, "main"]
    assert mixed(native, python, 12) == ["list_dealloc", EVAL, "list_sort", "f3:33", "main"]


def test_a_call_that_begins_has_no_frame_yet() -> None:
    """It writes its own stack first."""
    for minor, flags in ((9, 0), (11, ENTRY_3_11)):
        python = [(1, 11, flags), (2, 22, flags)]
        assert mixed([EVAL, "a", EVAL, "b", EVAL, "main"], python, minor) == [
            *(EVAL, "a", "f1:11", "b", "f2:22", "main")
        ]


def test_of_a_stack_deeper_than_what_is_read_the_inner_frames_are_placed() -> None:
    python = [(1, line, ENTRY_3_11) for line in range(32)]
    assert mixed([EVAL] * 40, python, 11) == [f"f1:{line}" for line in range(32)] + [EVAL] * 8


def test_frames_that_were_not_unwound_follow_at_the_end() -> None:
    python = [(1, 11, ENTRY_3_11), (2, 22, INNER), (3, 33, ENTRY_3_11)]
    assert mixed(["memset", EVAL, "list_sort"], python, 11) == [
        *("memset", "f1:11", "list_sort", "f2:22", "f3:33")
    ]
    assert mixed(["memset"], python, 11) == ["memset", "f1:11", "f2:22", "f3:33"]


def test_without_frames_of_python_nothing_changes() -> None:
    assert mixed(["memset", EVAL, "main"], [], 12) == ["memset", EVAL, "main"]


def test_trampolines_have_the_names_already() -> None:
    native = ["memset", "py::f1:a.py", EVAL]
    assert mixed(native, [(2, 22, ENTRY_3_11)], 12) == ["memset", "f1", EVAL]


def test_code_that_is_gone_and_code_that_is_hidden() -> None:
    python = [(50, 5, INNER), (22, 0, INNER), (1, 11, ENTRY_3_11)]
    assert mixed([EVAL], python, 11) == ["[python]", "f1:11"]


def test_parts_of_the_loop_that_lie_elsewhere() -> None:
    python = [(1, 11, 0), (2, 22, 0)]
    assert mixed([f"{EVAL}.cold", "sort", EVAL], python, 10) == ["f1:11", "sort", "f2:22"]
    # Without a name: the call that returns to the next frame's address tells it.
    assert mixed(["", "sort", EVAL], python, 10, (101,)) == ["f1:11", "sort", "f2:22"]
    assert mixed(["", "", "sort", EVAL], python, 10, (102,)) == ["", "f1:11", "sort", "f2:22"]
    # One with another name is another function, whatever the call; of the last, none is known.
    assert mixed(["memset", "sort", EVAL], python[:1], 10, (101,)) == ["memset", "sort", "f1:11"]
    assert mixed([EVAL, ""], python[:1], 10, (101, 102)) == ["f1:11", ""]


FUNCTION = 0x5945F0


def memory(back: int, code: bytes) -> Memory:
    """That code in front of an address; nothing else is readable."""

    def read(address: int, size: int) -> bytes:
        if back - len(code) <= address and address + size <= back:
            at = address - (back - len(code))
            return code[at : at + size]
        raise OSError

    return Memory(read)


def test_a_direct_call_names_its_function() -> None:
    for back in (0x443CC9, 0x5C8E84):
        x86 = b"\xe8" + (FUNCTION - back).to_bytes(4, "little", signed=True)
        assert calls(memory(back, x86), back, FUNCTION)
        assert not calls(memory(back, x86), back, FUNCTION + 16)
        assert not calls(memory(back, b"\xe9" + x86[1:]), back, FUNCTION)
        assert not calls(memory(back, x86[1:]), back, FUNCTION)  # no byte in front is readable
    for back in (0x443CC8, 0x5C8E84):
        words = (FUNCTION - (back - 4)) // 4 & (1 << 26) - 1
        arm = b"\0" + (0b100101 << 26 | words).to_bytes(4, "little")
        assert calls(memory(back, arm), back, FUNCTION)
        assert not calls(memory(back, arm), back, FUNCTION - 4)
        branch = b"\0" + (0b000101 << 26 | words).to_bytes(4, "little")
        assert not calls(memory(back, branch), back, FUNCTION)
    assert not calls(memory(0x5C8E84, b"\xff\xd0\x90\x90\x90"), 0x5C8E84, FUNCTION)
    assert not calls(memory(0x5C8E84, b""), 3, FUNCTION)
