"""Carry compiled BPF programs from one boot of a kernel to the next: its third disk, one tar.

Under emulation each compile takes seconds. The guest unpacks the tar before the command, and
packs its programs again after it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_DISK_BYTES = 16 << 20  # cache.write keeps 128 files of some 50 kB
_NAME = "programs.tar"


def load(kernel: Path, disk: Path) -> None:
    """Write the disk: what the last boot of the kernel in this folder left, or nothing."""
    tar = b""
    with suppress(OSError):
        tar = (kernel / _NAME).read_bytes()
    disk.write_bytes(tar)
    os.truncate(disk, _DISK_BYTES)


def save(disk: Path, kernel: Path) -> None:
    """Keep what the guest left. A folder that cannot be written keeps what it has.

    A tar that is cut or damaged does no harm: each file in it has a checksum, see cowtrace.cache.
    """
    partial = kernel / f"{_NAME}.{os.getpid()}"
    with suppress(OSError):
        partial.write_bytes(disk.read_bytes().rstrip(b"\0"))
        partial.rename(kernel / _NAME)
