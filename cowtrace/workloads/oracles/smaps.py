"""/proc/self/smaps: what the kernel says of one mapping, in bytes."""

from __future__ import annotations

from pathlib import Path


def of_mapping(start: int) -> dict[str, int]:
    """Sizes in bytes by smaps' own names (Private_Dirty) of all mappings from `start` up to the
    first gap; a mapping that was split counts whole. Empty when nothing is mapped there.
    """
    sizes: dict[str, int] = {}
    end = start
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if "-" in name and " " in line.partition("-")[2]:
            first, _, last = line.split()[0].partition("-")
            inside = int(first, 16) == end
            end = int(last, 16) if inside else end
        elif inside and rest.endswith("kB"):
            sizes[name] = sizes.get(name, 0) + int(rest.split()[0]) * 1024
    return sizes
