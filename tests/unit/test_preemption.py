"""Can a thread be preempted in the kernel?"""

from __future__ import annotations

from pathlib import Path

import pytest

from cowtrace.kernel import preemption
from cowtrace.kernel.preemption import preemptible, real_time


@pytest.mark.parametrize(
    ("version", "chosen", "expected"),
    [
        ("#1 SMP Debian 5.10.223-1 (2024-08-10)", None, False),
        ("#1 SMP PREEMPT Debian 5.10", None, True),
        ("#1 SMP PREEMPT(lazy) Debian 7.2.12-1", None, True),
        ("#1 SMP PREEMPT(none) Debian", None, False),
        ("#1 SMP PREEMPT_RT Debian", None, True),
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.12", "none (voluntary) full\n", False),
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.12", "none voluntary (full) lazy\n", True),
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.12", None, True),  # nothing tells
    ],
)
def test_the_model_is_told_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    chosen: str | None,
    expected: bool,
) -> None:
    monkeypatch.setattr(preemption, "symbols", lambda names: {})
    preempt = tmp_path / "preempt"
    if chosen:
        preempt.write_text(chosen)
    assert preemptible(version, preempt) is expected


def test_a_real_time_kernel_is_told_by_its_word() -> None:
    assert real_time("#1 SMP PREEMPT_RT Debian 6.12.1-1")
    assert not real_time("#1 SMP PREEMPT_DYNAMIC Debian 6.12.1-1")


KNOWN = {
    "__SCT__cond_resched": 0xFFFFFFFF82204368,
    "__cond_resched": 0xFFFFFFFF821F96A0,
    "__static_call_return0": 0xFFFFFFFF815637A0,
}


@pytest.mark.parametrize(
    ("known", "jumps_to", "expected"),
    [
        (KNOWN, "__cond_resched", False),
        (KNOWN, "__static_call_return0", True),
        (dict.fromkeys(KNOWN, 0), "__cond_resched", True),  # kernel.kptr_restrict
        ({}, "__cond_resched", True),
    ],
)
def test_without_debugfs_it_is_told_by_a_call_that_does_something_or_not(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, int], jumps_to: str, expected: bool
) -> None:
    def read(address: int) -> int:
        assert address == KNOWN["__SCT__cond_resched"] + 1
        return (KNOWN[jumps_to] - (address + 4)) & 0xFFFFFFFF

    monkeypatch.setattr(preemption, "symbols", lambda names: known)
    monkeypatch.setattr(preemption, "read_u32", read)
    nowhere = Path("/nonexistent")
    assert preemptible("#1 SMP PREEMPT_DYNAMIC Debian 6.12", nowhere) is expected
