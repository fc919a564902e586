"""Sums over CPUs."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from cowtrace.tracer import abi
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
