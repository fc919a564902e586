"""Read BPF maps as a whole; write and remove elements."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TypeVar

from cowtrace.errors import CowtraceError
from cowtrace.kernel.libbpf import libbpf
from cowtrace.tracer.abi import Layout
from cowtrace.tracer.packed import Packed
from cowtrace.tracer.realtime import real_time_thread

_BATCH = 4096  # elements a system call
K = TypeVar("K")
V = TypeVar("V")


def read_hash(fd: int, key: Layout[K], value: Layout[V]) -> Packed[K, V]:
    """Every element of a hash that is not per-CPU."""
    raw: dict[K, bytes] = {}
    for keys, values in _batches(fd, key.size, value.size):
        each = (values[at : at + value.size] for at in range(0, len(values), value.size))
        raw.update(zip(key.iter_unpack(keys), each, strict=True))
    return Packed(value, raw)


def read_batches(
    fd: int, key: Layout[K], value: Layout[V], *, per_cpu: bool = False
) -> Iterator[list[tuple[K, V]]]:
    """Some elements of a hash after the other: (key, value), summed over CPUs.

    A sum wraps at 64 bits: one CPU may take back what another one counted.
    Elements that come or go meanwhile may be missing; one that stays is read once. What was read
    may be removed before the next batch.
    """
    cpus = libbpf().libbpf_num_possible_cpus() if per_cpu else 1
    size = cpus * (_padded(value.struct).size if per_cpu else value.size)
    for keys, values in _batches(fd, key.size, size):
        each: Iterable[V] = value.iter_unpack(values)
        if per_cpu:
            each = (sum_cpus(values[at : at + size], value) for at in range(0, len(values), size))
        yield list(zip(key.iter_unpack(keys), each, strict=True))


def read_array(fd: int, length: int, value: Layout[V]) -> list[V]:
    """Every element of a per-CPU array, summed over CPUs."""
    lib = libbpf()
    raw = ctypes.create_string_buffer(lib.libbpf_num_possible_cpus() * (value.size + 7 & ~7))
    elements: list[V] = []
    with real_time_thread():
        for index in range(length):
            if lib.bpf_map_lookup_elem(fd, ctypes.byref(ctypes.c_uint32(index)), raw):
                raise CowtraceError(
                    f"cannot read BPF array element {index}",
                    hint="report this with `cowtrace doctor`",
                )
            elements.append(sum_cpus(raw.raw, value))
    return elements


def read_parts(fd: int, start: int, length: int, value: Layout[V]) -> list[V]:
    """Elements of a per-CPU array, each CPU's alone, without those that are all zero."""
    lib = libbpf()
    raw = ctypes.create_string_buffer(lib.libbpf_num_possible_cpus() * value.size)
    empty = bytes(len(raw))
    index = ctypes.c_uint32()
    parts: list[V] = []
    with real_time_thread():
        for index.value in range(start, start + length):
            if not lib.bpf_map_lookup_elem(fd, ctypes.byref(index), raw) and raw.raw != empty:
                parts.extend(value.iter_unpack(raw.raw))
    return parts


def read_element(fd: int, key: bytes, value: Layout[V]) -> V | None:
    """One element of a map that is not per-CPU; None when it is not there."""
    raw = ctypes.create_string_buffer(value.size)
    with real_time_thread():
        failed = libbpf().bpf_map_lookup_elem(fd, key, raw)
    return None if failed else value.unpack(raw.raw)


def write_element(fd: int, index: int, value: bytes) -> None:
    """Set one element, by a 32-bit key."""
    if not try_to_write(fd, index, value):
        raise CowtraceError(
            "cannot write to a BPF map", hint="report this with the output of `cowtrace doctor`"
        )


def try_to_write(fd: int, index: int, value: bytes) -> bool:
    """Set one element, by a 32-bit key. False: the map has no room for it."""
    key = ctypes.c_uint32(index)
    with real_time_thread():
        return not libbpf().bpf_map_update_elem(fd, ctypes.byref(key), value, 0)


def delete(fd: int, keys: list[bytes]) -> None:
    """Remove elements, by BPF_MAP_DELETE_BATCH. It is no error if one is gone already."""
    lib = libbpf()
    while keys:
        packed, count = b"".join(keys), ctypes.c_uint32(len(keys))
        with real_time_thread():
            failed = lib.bpf_map_delete_batch(fd, packed, ctypes.byref(count), None)
        if not failed:
            return
        keys = keys[count.value + 1 :]  # the call stops at an element that is gone


def sum_cpus(raw: bytes, value: Layout[V]) -> V:
    """One value from its parts, a part a CPU, each padded to 8 bytes by the kernel."""
    columns = zip(*_padded(value.struct).iter_unpack(raw), strict=True)
    return value.make([sum(column) & 0xFFFF_FFFF_FFFF_FFFF for column in columns])


@cache
def _padded(value: struct.Struct) -> struct.Struct:
    """One CPU's part of a per-CPU value: padded to 8 bytes."""
    return struct.Struct(f"{value.format}{(-value.size) % 8}x")


def _batches(fd: int, key_bytes: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """BPF_MAP_LOOKUP_BATCH, 5.6 and later."""
    lib = libbpf()
    keys = ctypes.create_string_buffer(_BATCH * key_bytes)
    values = ctypes.create_string_buffer(_BATCH * value_bytes)
    cursor = ctypes.create_string_buffer(max(key_bytes, 8))
    started = False
    size = _BATCH
    while True:
        count = ctypes.c_uint32(size)
        previous = cursor if started else None
        with real_time_thread():
            failed = lib.bpf_map_lookup_batch(
                fd, previous, cursor, keys, values, ctypes.byref(count), None
            )
            error = ctypes.get_errno() if failed else 0
        if error == errno.ENOSPC:  # one bucket holds more than fits
            size *= 2
            keys = ctypes.create_string_buffer(size * key_bytes)
            values = ctypes.create_string_buffer(size * value_bytes)
            continue
        if error not in (0, errno.ENOENT):
            raise CowtraceError(
                f"cannot read a BPF map: {errno.errorcode.get(error, error)}",
                hint="report this with the output of `cowtrace doctor`",
            )
        yield keys.raw[: count.value * key_bytes], values.raw[: count.value * value_bytes]
        if error:
            return
        started = True
