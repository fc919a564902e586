"""/proc/self/smaps: what the kernel says of mappings, in bytes."""

from __future__ import annotations

from pathlib import Path


def of_range(start: int, size: int) -> dict[str, int]:
    """Sizes in bytes, by smaps' own names (Private_Dirty), of the mappings that lie in a range."""
    sizes: dict[str, int] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if "-" in line.split(maxsplit=1)[0]:
            first, _, last = line.split()[0].partition("-")
            inside = start <= int(first, 16) and int(last, 16) <= start + size
        elif inside and rest.endswith("kB"):
            sizes[name] = sizes.get(name, 0) + int(rest.split()[0]) * 1024
    return sizes
