"""Bytecode programs to bytes and back, and their instructions with other numbers of maps."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace.kernel.programs import MapSpec
from cowtrace.tracer.bytecode import Bytecode, with_kfuncs, with_maps, with_numbers

SUMS = MapSpec("sums", 5, 16, 16, 65536, 0)
RING = MapSpec("events", 27, 0, 0, 4096, 0)


def instruction(operation: int, source: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", operation, source << 4 | 1, 0, immediate)


def load_map(number: int) -> bytes:
    """r1 = map: two instructions, the second one with the upper half."""
    return instruction(0x18, 1, number) + instruction(0)


EXIT = instruction(0x95)
PROGRAMS = Bytecode((SUMS, RING), (("raw_tracepoint__x", load_map(1) + EXIT), ("y", EXIT)))


@given(st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=64)), max_size=4))
def test_to_bytes_and_back(programs: list[tuple[str, bytes]]) -> None:
    compiled = Bytecode((SUMS, RING), tuple(programs))
    assert Bytecode.from_bytes(compiled.to_bytes()) == compiled


def test_maps_get_another_number_and_nothing_else_changes() -> None:
    helper = instruction(0x85, 0, 7)
    constant = instruction(0x18, 0, 7) + instruction(0, 0, 7)
    code = load_map(7) + helper + constant + load_map(8) + EXIT
    moved = with_maps(code, {7: 23, 8: 509}.__getitem__)
    assert moved == load_map(23) + helper + constant + load_map(509) + EXIT


@pytest.mark.parametrize(("operation", "source"), [(0x18, 2), (0x85, 1)])
def test_what_exists_only_where_it_was_loaded_is_refused(operation: int, source: int) -> None:
    with pytest.raises(ValueError, match="instruction 1"):
        with_maps(EXIT + instruction(operation, source), lambda number: number)


def test_marked_calls_become_calls_of_kernel_functions() -> None:
    helper, constant = instruction(0x85, 0, 14), instruction(0xB7, 0, 0x40000007)
    marked = struct.pack("<BBhi", 0x85, 0, 0, 0x40000000 | 65477)
    call = struct.pack("<BBhi", 0x85, 2 << 4, 0, 65477)
    code = with_kfuncs(helper + constant + marked + EXIT)
    assert code == helper + constant + call + EXIT
    assert with_maps(code, lambda number: number) == code


def load_number(number: int, source: int = 0) -> bytes:
    """r1 = a 64-bit number: two instructions."""
    low, high = number & 0xFFFFFFFF, number >> 32
    return struct.pack("<BBhIBBhI", 0x18, source << 4 | 1, 0, low, 0, 0, 0, high)


def test_marked_numbers_become_addresses_and_elements_of_maps() -> None:
    others = load_number(0xC057_0000) + load_map(1) + instruction(0x85, 0, 1)
    code = load_number(0xC057_0000_0000_0001) + others + load_number(0xC058_0000_0000_0002) + EXIT
    loaded = with_numbers(code, (5, 0xFFFF_8880_DEAD_BEE0), {2: 77}.__getitem__)
    # BPF_PSEUDO_MAP_VALUE is 2; the upper half is the place in the element.
    expected = load_number(0xFFFF_8880_DEAD_BEE0) + others + load_number(77, source=2) + EXIT
    assert loaded == expected
