"""Carry what a boot of a kernel compiled to its next one: the VM's third disk, one tar.

That is BPF programs, and cowtrace's own Python modules as .pyc files: under emulation each takes
long to compile. The guest unpacks the tar before the command, and packs it again after one that
compiled something. Python takes a .pyc only if its source has the same size and time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_DISK_BYTES = 32 << 20  # 512 files of some 40 KiB, see cowtrace.cache, and 400 modules of 10 KiB
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

    For a command that has ended: then the tar is whole. A BPF program that is cut or damaged would
    do no harm, for it has a checksum (see cowtrace.cache), but a .pyc would.
    """
    partial = kernel / f"{_NAME}.{os.getpid()}"
    with suppress(OSError):
        partial.write_bytes(disk.read_bytes().rstrip(b"\0"))
        partial.rename(kernel / _NAME)
