"""Hold compiled programs apart from BCC, as bytes too, so that a later start need not compile."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from cowtrace.kernel.programs import MapSpec

_INSTRUCTION = struct.Struct("<BBhi")  # code, registers, offset, immediate
_LOAD_64, _CALL = 0x18, 0x85
_MAP_FD = 1  # BPF_PSEUDO_MAP_FD, as source register of _LOAD_64: the immediate is a map
_KFUNC = 2  # BPF_PSEUDO_KFUNC_CALL, as source register of _CALL: the immediate is a BTF id
_MAP_VALUE = 2  # BPF_PSEUDO_MAP_VALUE, likewise: the address of an element of a map
_KFUNC_MARK = 0x40000000  # as in bpf/kernel.h, as the next ones
_ADDRESS_MARK, _MAP_MARK = 0xC0570000, 0xC0580000  # upper half of a number to be replaced


@dataclass(frozen=True, slots=True)
class Bytecode:
    """What it takes to load programs again on the same kernel."""

    maps: tuple[MapSpec, ...]
    programs: tuple[tuple[str, bytes], ...]  # name, instructions; a map is its index in `maps`

    def to_bytes(self) -> bytes:
        maps = [astuple(spec) for spec in self.maps]
        programs = [(name, code.hex()) for name, code in self.programs]
        return json.dumps({"maps": maps, "programs": programs}).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Bytecode:
        found = json.loads(data)
        return Bytecode(
            tuple(MapSpec(*fields) for fields in found["maps"]),
            tuple((name, bytes.fromhex(code)) for name, code in found["programs"]),
        )


def with_maps(code: bytes, number: Callable[[int], int]) -> bytes:
    """The instructions with another number for each map that they refer to.

    Raises ValueError when they refer to something else that exists in one process only.
    """
    changed = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION.size):
        operation, registers, offset, immediate = _INSTRUCTION.unpack_from(code, at)
        source = registers >> 4
        if operation == _LOAD_64 and source == _MAP_FD:
            _INSTRUCTION.pack_into(changed, at, operation, registers, offset, number(immediate))
        elif source and (operation == _LOAD_64 or (operation == _CALL and source != _KFUNC)):
            raise ValueError(f"instruction {at // 8} refers to no map")
    return bytes(changed)


def with_numbers(code: bytes, addresses: Sequence[int], single_maps: Callable[[int], int]) -> bytes:
    """The instructions, with the marked numbers replaced: known only where they are loaded.

    `addresses`: in the order of enum kernel_address, bpf/cow.h. `single_maps`: the file descriptor
    of the map of that number in enum single_map.
    """
    changed = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION.size):
        operation, registers, offset, number = _INSTRUCTION.unpack_from(code, at)
        if operation != _LOAD_64 or registers >> 4:
            continue
        mark = int.from_bytes(code[at + 12 : at + 16], "little")
        if mark == _ADDRESS_MARK:
            value = addresses[number].to_bytes(8, "little")
            changed[at + 4 : at + 8], changed[at + 12 : at + 16] = value[:4], value[4:]
        elif mark == _MAP_MARK:
            registers |= _MAP_VALUE << 4
            _INSTRUCTION.pack_into(changed, at, operation, registers, offset, single_maps(number))
            changed[at + 12 : at + 16] = bytes(4)  # from the element's start
    return bytes(changed)


def with_kfuncs(code: bytes) -> bytes:
    """The instructions, with marked calls turned into calls of kernel functions.

    BCC's compiler supports calls of helpers only, by their number.
    """
    changed = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION.size):
        operation, registers, offset, immediate = _INSTRUCTION.unpack_from(code, at)
        if operation == _CALL and not registers >> 4 and immediate & _KFUNC_MARK:
            btf_id = immediate & ~_KFUNC_MARK
            _INSTRUCTION.pack_into(changed, at, operation, _KFUNC << 4, offset, btf_id)
    return bytes(changed)
