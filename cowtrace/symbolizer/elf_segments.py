"""Read the segments of an ELF file: what of it is loaded where. The file is hostile."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_LOADED = (2, 3)  # ET_EXEC, ET_DYN
PT_LOAD, PT_DYNAMIC = 1, 2


@dataclass(frozen=True, slots=True)
class Segment:
    """One program header."""

    type: int
    offset: int  # in the file
    bytes: int  # of the file
    address: int  # virtual


def segments(fd: int) -> tuple[Segment, ...]:
    """Those of an open program or library, as many as can be read.

    Raises ValueError when it is none, OSError when unreadable.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise ValueError("not a regular file")
    head = os.pread(fd, HEADER.size, 0)
    if len(head) < HEADER.size or not head.startswith(_MAGIC):
        raise ValueError("not an ELF file of this architecture")
    fields = HEADER.unpack(head)
    kind, at, size, count = fields[1], fields[5], fields[9], fields[10]
    if kind not in _LOADED or size != _SEGMENT.size:
        raise ValueError("not a program or library")
    with suppress(OverflowError):  # an offset beyond any file's
        table = os.pread(fd, size * count, at)
        found = _SEGMENT.iter_unpack(table[: len(table) // size * size])
        return tuple(Segment(s[0], s[2], s[5], s[3]) for s in found)
    return ()


def virtual_address(loaded: Iterable[Segment], offset: int) -> int | None:
    """Where the file wants the byte at that offset to be loaded; None: nowhere."""
    for each in loaded:
        if each.offset <= offset < each.offset + each.bytes:
            return each.address + offset - each.offset
    return None
