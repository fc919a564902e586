"""Read a process's memory from /proc: oracles that do not depend on a trace."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from cowtrace.workloads.region import PAGE_BYTES

_PRESENT = 1 << 63
_FILE_OR_SHARED = 1 << 61
_FRAME = (1 << 55) - 1


def rollup(pid: int) -> dict[str, int]:
    """Bytes, by the kernel's names: Rss, Private_Dirty, Shared_Dirty, Anonymous..."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def private(pid: int) -> set[tuple[int, int]]:
    """Start and end of its writable private mappings, those that fork shares until a write."""
    found = set()
    for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        span, permissions = line.split()[:2]
        if permissions[1] == "w" and permissions[3] == "p":
            start, end = (int(address, 16) for address in span.split("-"))
            found.add((start, end))
    return found


def mapped(pid: int, path: Path) -> int:
    """Address at which the process has mapped a file."""
    lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    return next(int(line.split("-")[0], 16) for line in lines if line.endswith(str(path)))


def frames(pid: int, start: int, end: int) -> Iterator[int | None]:
    """The frame number of each page there; None where no page is present."""
    return (entry & _FRAME if entry & _PRESENT else None for entry in _entries(pid, start, end))


def anonymous(pid: int, start: int, end: int) -> Iterator[int]:
    """Numbers, from `start` on, of the pages there that are neither a file's nor shared memory."""
    for number, entry in enumerate(_entries(pid, start, end)):
        if entry & (_PRESENT | _FILE_OR_SHARED) == _PRESENT:
            yield number


def parted(pid: int, other: int) -> int:
    """Pages that two processes, one forked from the other, have at one address in two frames.

    One of them was copied since the fork, or they were new in both. Of mappings that neither has
    changed since.
    """
    return sum(
        None not in (mine, theirs) and mine != theirs
        for start, end in private(pid) & private(other)
        for mine, theirs in zip(frames(pid, start, end), frames(other, start, end), strict=True)
    )


def _entries(pid: int, start: int, end: int) -> Iterable[int]:
    entries = array("Q")
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(start // PAGE_BYTES * entries.itemsize)
        entries.frombytes(pagemap.read((end - start) // PAGE_BYTES * entries.itemsize))
    return entries
