"""Sums over CPUs."""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowtrace.errors import CowtraceError
from cowtrace.tracer import abi, bpf_maps
from cowtrace.tracer.abi import Layout
from cowtrace.tracer.bpf_maps import sum_cpus

U64 = st.integers(0, (1 << 64) - 1)


@given(st.lists(st.tuples(U64, U64), min_size=1, max_size=8))
def test_sums_over_cpus_wrap(rows: list[tuple[int, int]]) -> None:
    raw = b"".join(struct.pack("<QQ", *row) for row in rows)
    assert sum_cpus(raw, abi.FAULT_SUM) == tuple(
        sum(column) % (1 << 64) for column in zip(*rows, strict=True)
    )


def test_values_of_a_cpu_are_padded_to_8_bytes() -> None:
    raw = struct.pack("<IxxxxIxxxx", 2, 3)
    assert sum_cpus(raw, Layout(tuple, struct.Struct("<I"))) == (5,)


class FakeMap:
    """A hash whose keys and values are 32-bit numbers; a bucket holds more than a batch."""

    def __init__(self, elements: int = 0, error: int = 0) -> None:
        self.left = elements
        self.error = error
        self.deleted: list[int] = []
        self.gone: set[int] = set()

    def libbpf_num_possible_cpus(self) -> int:
        return 1

    def bpf_map_lookup_batch(
        self, fd: int, previous: Any, cursor: Any, keys: Any, values: Any, count: Any, _: None
    ) -> int:
        room = count._obj.value
        assert ctypes.sizeof(keys) >= 4 * room
        assert ctypes.sizeof(values) >= 4 * room
        if self.error or room < self.left:
            ctypes.set_errno(self.error or errno.ENOSPC)
            return -1
        for at in range(self.left):
            struct.pack_into("<I", keys, 4 * at, at)
            struct.pack_into("<I", values, 4 * at, at + 1)
        count._obj.value, self.left = self.left, 0
        ctypes.set_errno(errno.ENOENT)
        return -1

    def bpf_map_delete_batch(self, fd: int, packed: bytes, count: Any, _: None) -> int:
        for at, (key,) in enumerate(struct.iter_unpack("<I", packed)):
            if key in self.gone:
                count._obj.value = at
                return -1
            self.deleted.append(key)
        return 0


def test_a_bucket_that_holds_more_than_a_batch_is_read_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bpf_maps, "libbpf", lambda: FakeMap(3 * bpf_maps._BATCH))
    found = bpf_maps.read_hash(3, abi.U32, abi.U32)
    assert found == {at: at + 1 for at in range(3 * bpf_maps._BATCH)}


def test_a_map_that_cannot_be_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf_maps, "libbpf", lambda: FakeMap(error=errno.EPERM))
    with pytest.raises(CowtraceError, match="EPERM"):
        bpf_maps.read_hash(3, abi.U32, abi.U32)


def test_an_element_that_is_gone_does_not_keep_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = FakeMap()
    made.gone = {7, 11}
    monkeypatch.setattr(bpf_maps, "libbpf", lambda: made)
    bpf_maps.delete(3, [key.to_bytes(4, "little") for key in (5, 7, 8, 9, 11, 13)])
    assert made.deleted == [5, 8, 9, 13]
