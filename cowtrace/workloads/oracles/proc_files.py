"""Read what the kernel reports of pages and mappings in /proc: kpageflags, smaps and vmstat."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from contextlib import contextmanager
from pathlib import Path

from cowtrace.workloads.outcome import Evidence

# include/uapi/linux/kernel-page-flags.h
_KPF_COMPOUND_HEAD, _KPF_COMPOUND_TAIL, _KPF_ZERO_PAGE = 15, 16, 24

_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ")
_SIZE = re.compile(rb"(\w+): +(\d+) kB")


def are_zero_pages(frames: Iterable[int]) -> list[bool]:
    """True for each of these frames that /proc/kpageflags flags as a zero page. For root."""
    return [bool(flags >> _KPF_ZERO_PAGE & 1) for flags in _page_flags(frames)]


def compound_pages(frames: Sequence[int]) -> int:
    """How many of these frames, from the first on, are one large folio: 0 if none. For root."""
    flags = list(_page_flags(frames))
    if not flags or not flags[0] >> _KPF_COMPOUND_HEAD & 1:
        return 0
    for number, (frame, flag) in enumerate(zip(frames, flags, strict=True)):
        if number and (frame != frames[0] + number or not flag >> _KPF_COMPOUND_TAIL & 1):
            return number
    return len(frames)


def _page_flags(frames: Iterable[int]) -> Iterator[int]:
    with Path("/proc/kpageflags").open("rb", buffering=0) as file:
        for frame in frames:
            yield int.from_bytes(os.pread(file.fileno(), 8, 8 * frame), "little")


def smaps_sizes(start: int, size: int, path: Path = Path("/proc/self/smaps")) -> dict[str, int]:
    """Sizes in bytes, by smaps' own names (Private_Dirty), of the mappings that lie in a range."""
    sizes: dict[str, int] = {}
    inside = False
    # Bytes: names hold anything but a newline, and str.splitlines() knows more ends of a line.
    for line in path.read_bytes().split(b"\n"):
        if found := _MAPPING.match(line):
            inside = start <= int(found[1], 16) and int(found[2], 16) <= start + size
        elif inside and (found := _SIZE.fullmatch(line)):
            name = found[1].decode()
            sizes[name] = sizes.get(name, 0) + int(found[2]) * 1024
    return sizes


@contextmanager
def vmstat_grows(evidence: MutableSequence[Evidence], name: str, wanted: int) -> Iterator[None]:
    """A counter of /proc/vmstat must grow by at least `wanted`: it counts all processes."""
    before = vmstat(name)
    yield
    after = vmstat(name)
    if before is None or after is None:
        what = f"this kernel does not count {name}"
        evidence.append(Evidence("vmstat", what, None, None, None))
        return
    seen = after - before
    what = f"{name}, at least (all processes)"
    evidence.append(Evidence("vmstat", what, wanted, seen, seen >= wanted))


def vmstat(name: str) -> int | None:
    """One counter; None where this kernel has none of that name."""
    lines = map(str.split, Path("/proc/vmstat").read_text(encoding="ascii").splitlines())
    return next((int(value) for key, value in lines if key == name), None)
