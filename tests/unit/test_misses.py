"""Can a thread be preempted in the kernel?"""

from __future__ import annotations

from pathlib import Path

import pytest

from cowtrace.kernel.misses import preemptible


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
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.12", None, True),  # debugfs is not mounted
    ],
)
def test_the_model_is_told_by_name(
    tmp_path: Path, version: str, chosen: str | None, expected: bool
) -> None:
    preempt = tmp_path / "preempt"
    if chosen:
        preempt.write_text(chosen)
    assert preemptible(version, preempt) is expected
