"""What this kernel tells of a BPF program, and what an older one leaves out."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from cowtrace.kernel import statistics


@pytest.mark.parametrize(("known_bytes", "found"), [(24, 23), (23, 0), (8, 0)])
def test_a_member_beyond_what_this_kernel_fills_in_is_missing(
    monkeypatch: pytest.MonkeyPatch, known_bytes: int, found: int
) -> None:
    def fill(fd: int, info: Any, size: Any) -> int:
        struct.pack_into("<Q", info, 16, 23)
        size._obj.value = known_bytes
        return 0

    monkeypatch.setattr(statistics, "libbpf", lambda: SimpleNamespace(bpf_obj_get_info_by_fd=fill))
    btf: Any = SimpleNamespace(offset=lambda struct_name, member: 16)
    assert statistics.skipped_runs(btf, 3) == found
