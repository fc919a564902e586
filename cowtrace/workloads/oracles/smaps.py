"""/proc/self/smaps: what the kernel says of mappings, in bytes."""

from __future__ import annotations

import re
from pathlib import Path

_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ")
_SIZE = re.compile(rb"(\w+): +(\d+) kB")


def of_range(start: int, size: int, path: Path = Path("/proc/self/smaps")) -> dict[str, int]:
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
