"""Read what the kernel reports of pages and mappings in /proc: kpageflags, smaps and vmstat."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, MutableSequence
from contextlib import contextmanager
from pathlib import Path

from cowtrace.workloads.outcome import Evidence

_KPF_ZERO_PAGE = 24  # include/uapi/linux/kernel-page-flags.h

_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ")
_SIZE = re.compile(rb"(\w+): +(\d+) kB")


def are_zero_pages(frames: Iterable[int]) -> list[bool]:
    """True for each of these frames that /proc/kpageflags flags as a zero page. For root."""
    with Path("/proc/kpageflags").open("rb", buffering=0) as flags:
        words = (os.pread(flags.fileno(), 8, 8 * frame) for frame in frames)
        return [bool(int.from_bytes(word, "little") >> _KPF_ZERO_PAGE & 1) for word in words]


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
