"""Read how much of a process's memory is private, as the kernel adds it up in smaps_rollup."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cowtrace.frames.entries import Gone

_SIZE = re.compile(rb"^(\w+): +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rollup:
    """Sums over all mappings, in bytes."""

    pss: int  # resident; of a page that N processes map, each has an Nth
    private: int  # that no other process maps, pages of files and hugetlb included
    anonymous: int
    swap: int  # shared by Pss: a place of two processes counts half


def rollup(pid: int, proc: Path = Path("/proc")) -> Rollup:
    """Raises Gone; PermissionError: it is another user's."""
    try:
        text = (proc / str(pid) / "smaps_rollup").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise Gone from None
    sizes = {name: 1024 * int(kib) for name, kib in _SIZE.findall(text)}
    if b"Private_Dirty" not in sizes:
        raise Gone  # a zombie's is empty
    private = (b"Private_Clean", b"Private_Dirty", b"Private_Hugetlb")
    return Rollup(
        sizes.get(b"Pss", 0),
        sum(sizes.get(name, 0) for name in private),
        sizes.get(b"Anonymous", 0),
        sizes.get(b"SwapPss", 0),
    )
