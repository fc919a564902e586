"""/proc/kpageflags: what kind of page each frame holds. For root."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ZERO_PAGE = 24  # include/uapi/linux/kernel-page-flags.h


def have(flag: int, frames: Iterable[int]) -> list[bool]:
    """Whether each of these frames has that flag."""
    with Path("/proc/kpageflags").open("rb", buffering=0) as flags:

        def has(frame: int) -> bool:
            flags.seek(8 * frame)
            return bool(int.from_bytes(flags.read(8), "little") >> flag & 1)

        return [has(frame) for frame in frames]
