"""Find in the console of a kernel that did not come up which options it was built without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# What the kernel, or /init (cowtrace/vm/guest/init), says; and the options that it points to.
_SIGNS = (
    (r"unable to mount root fs on (?:\"\"|unknown-block\(0,0\))", ("CONFIG_BLK_DEV_INITRD",)),
    (r"failed to execute /init \(error -8\)", ("CONFIG_64BIT", "CONFIG_BINFMT_SCRIPT")),
    (r"mounting dev on /dev failed: No such device", ("CONFIG_DEVTMPFS",)),
    (
        r"mounting /dev/vda on /newroot failed: No such file",
        ("CONFIG_PCI", "CONFIG_VIRTIO_PCI", "CONFIG_BLOCK", "CONFIG_BLK_DEV", "CONFIG_VIRTIO_BLK"),
    ),
    (r"mounting /dev/vda on /newroot failed: No such device", ("CONFIG_EXT4_FS",)),
)


@dataclass(frozen=True, slots=True)
class Lacking:
    """Options that a boot lacked, and the line of its console that shows it."""

    options: tuple[str, ...]
    sign: str


def lacking(console: Sequence[str]) -> Lacking | None:
    """The first sign in the console's lines; None if there is none."""
    for line in console:
        for pattern, options in _SIGNS:
            if found := re.search(pattern, line, re.IGNORECASE):
                return Lacking(options, found.group())
    return None
