"""Look up struct offsets, parameter names and enum values of this kernel in its BTF."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import struct
from collections.abc import Callable, Iterator
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from cowtrace import cache
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.libbpf import libbpf

# COWTRACE_BTF: for a kernel without type information of its own, a file made by pahole.
VMLINUX = Path(os.environ.get("COWTRACE_BTF") or "/sys/kernel/btf/vmlinux")

# include/uapi/linux/btf.h
_STRUCT, _UNION, _ENUM, _TYPEDEF, _FUNC = 4, 5, 6, 8, 12
_MODIFIERS = frozenset((8, 9, 10, 11, 18))  # typedef, volatile, const, restrict, type tag
_DEEPEST = 32  # structs in structs, and modifiers of a type: damaged BTF may have loops
_HEAD = struct.Struct("<III")  # name_off, info, size or type
_MEMBER = struct.Struct("<III")  # name_off, type, offset in bits
_PARAM = struct.Struct("<II")  # name_off, type
_LookUp = TypeVar("_LookUp", bound=Callable[..., Any])
_ENUMERATOR = struct.Struct("<Ii")  # name_off, value


def _cached(look_up: _LookUp) -> _LookUp:
    """A method whose answers are cached."""

    @wraps(look_up)
    def ask(self: Btf, *names: str) -> Any:
        question = " ".join((look_up.__name__, *names))
        if question not in self.answers:
            self.answers[question] = look_up(self, *names)
            self.has_new_answers = True
        return self.answers[question]

    return cast(_LookUp, ask)


class Btf:
    """Type information of one kernel. Look-ups return None for what this kernel does not have.

    They raise CowtraceError if it has no type information. `answers` are those of an earlier start:
    parsing megabytes for a few numbers takes a third of a start's time.
    """

    def __init__(self, path: Path = VMLINUX, answers: dict[str, Any] | None = None) -> None:
        self._path = path
        self.answers = dict(answers or {})  # by method and arguments
        self.has_new_answers = False

    @cached_property
    def _btf(self) -> int:
        # libbpf 1.x: NULL and errno on failure.
        btf: int | None = libbpf().btf__parse(str(self._path).encode(), None)
        if not btf:
            raise CowtraceError(
                f"this kernel has no type information ({self._path})",
                hint="it needs CONFIG_DEBUG_INFO_BTF=y, as every Debian kernel since 5.10 has",
                exit_code=EXIT_NO_PLAN,
            )
        return btf

    @_cached
    def offset(self, structure: str, member: str) -> int | None:
        """Bytes from the start of a struct to a member, through anonymous structs and unions."""
        type_id = self._find(structure, _STRUCT)
        return None if type_id is None else self._offset(type_id, member)

    @_cached
    def size(self, structure: str) -> int | None:
        """Bytes of a struct."""
        type_id = self._find(structure, _STRUCT)
        return None if type_id is None else self._type(type_id)[2]

    def parameters(self, function: str) -> tuple[str, ...] | None:
        """Names of a function's parameters in order; None if it has no BTF: it may be inlined."""
        names = self._parameters(function)
        return None if names is None else tuple(names)

    @_cached
    def _parameters(self, function: str) -> list[str] | None:
        type_id = self._find(function, _FUNC)
        if type_id is None:
            return None
        prototype = self._type(type_id)[2]
        return [self._name(p[0]) for p in self._items(prototype, _PARAM)]

    @_cached
    def enumerator(self, enum: str, name: str) -> int | None:
        """Value of one enumerator of a named enum."""
        type_id = self._find(enum, _ENUM)
        if type_id is None:
            return None
        values = {self._name(n): value for n, value in self._items(type_id, _ENUMERATOR)}
        return values.get(name)

    @_cached
    def has_tracepoint(self, name: str) -> bool:
        """True if a tracepoint is compiled in: each defines a typedef for its callbacks."""
        return self._find(f"btf_trace_{name}", _TYPEDEF) is not None

    @_cached
    def struct_id(self, structure: str) -> int | None:
        """BTF id of a struct."""
        return self._find(structure, _STRUCT)

    @_cached
    def function_id(self, function: str) -> int | None:
        """BTF id of a function: how fentry and fexit programs name their target."""
        return self._find(function, _FUNC)

    def _find(self, name: str, kind: int) -> int | None:
        type_id: int = libbpf().btf__find_by_name_kind(self._btf, name.encode(), kind)
        return type_id if type_id > 0 else None

    def _type(self, type_id: int) -> tuple[int, int, int]:
        """(kind, number of items, size or type) of one type."""
        _, info, size = _HEAD.unpack(ctypes.string_at(self._address(type_id), _HEAD.size))
        return info >> 24 & 31, info & 0xFFFF, size

    def _address(self, type_id: int) -> int:
        address: int | None = libbpf().btf__type_by_id(self._btf, type_id)
        if not address:
            raise self._damaged()
        return address

    def _items(self, type_id: int, item: struct.Struct) -> Iterator[tuple[int, ...]]:
        """What follows a type's head: members, parameters or enumerators."""
        count = self._type(type_id)[1]
        raw = ctypes.string_at(self._address(type_id) + _HEAD.size, count * item.size)
        return item.iter_unpack(raw)

    def _name(self, offset: int) -> str:
        name: bytes | None = libbpf().btf__name_by_offset(self._btf, offset)
        if name is None:
            raise self._damaged()
        return name.decode(errors="backslashreplace")

    def _damaged(self) -> CowtraceError:
        return CowtraceError(
            f"this kernel's type information ({self._path}) is damaged",
            hint="report this with the output of `cowtrace doctor`",
            exit_code=EXIT_NO_PLAN,
        )

    def _offset(self, type_id: int, member: str, depth: int = 0) -> int | None:
        if depth > _DEEPEST:
            raise self._damaged()
        _, info, _ = _HEAD.unpack(ctypes.string_at(self._address(type_id), _HEAD.size))
        mask = 0xFFFFFF if info >> 31 else 0xFFFFFFFF  # kind_flag: the high byte is a bit width
        for name_offset, inner, bits in self._items(type_id, _MEMBER):
            name = self._name(name_offset)
            if name == member:
                return (bits & mask) // 8
            if not name:
                found = self._nested(inner, member, depth + 1)
                if found is not None:
                    return (bits & mask) // 8 + found
        return None

    def _nested(self, type_id: int, member: str, depth: int) -> int | None:
        kind, _, target = self._type(type_id)
        for _ in range(_DEEPEST):
            if kind not in _MODIFIERS:
                break
            type_id = target
            kind, _, target = self._type(type_id)
        return self._offset(type_id, member, depth) if kind in (_STRUCT, _UNION) else None


@functools.cache
def vmlinux() -> Btf:
    """The running kernel's BTF, with the answers of earlier starts since this boot."""
    data = cache.read(_key())
    return Btf(answers=json.loads(data) if data else None)


def save_answers() -> None:
    """Cache the answers for the next start."""
    btf = vmlinux()
    if btf.has_new_answers:
        cache.write(_key(), json.dumps(btf.answers).encode())
        btf.has_new_answers = False


def _key() -> str:
    return cache.key("btf", cache.boot_id(), str(VMLINUX))
