"""Read how much memory is left: /proc/meminfo, and the limits of cgroups (v2).

The files are world-readable: this works without privileges, after `Tracer.confine` as well.
"""

from __future__ import annotations

import re
from pathlib import Path

from cowtrace.model.memory_left import Left, MemoryLeft, least

_MEMINFO = Path("/proc/meminfo")
_MOUNTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_DEEPEST = 64  # folders above a cgroup that are read


def memory_left(
    cgroup: str | None, meminfo: Path = _MEMINFO, mounts: tuple[Path, ...] = _MOUNTS
) -> MemoryLeft:
    """What is left for a process of this cgroup, by its path below the mount; None: unknown."""
    found = Left()
    for mount in mounts:
        if cgroup and (mount / "cgroup.controllers").exists():
            found = _of_cgroup(mount, cgroup)
    return MemoryLeft(_of_machine(meminfo), found)


def _of_machine(meminfo: Path) -> Left:
    try:
        lines = meminfo.read_text()
    except OSError:
        return Left()

    def field(name: str) -> int | None:
        found = re.search(rf"^{name}: +(\d+) kB$", lines, re.MULTILINE)
        return int(found[1]) * 1024 if found else None

    return Left(field("MemAvailable"), None, field("SwapFree"))


def _of_cgroup(mount: Path, cgroup: str) -> Left:
    """The least of what the cgroup and those above it have left."""
    names = [name for name in cgroup.split("/") if name]
    if ".." in names or "\0" in cgroup:  # a cgroup outside of this namespace's root
        return Left()
    left, place = Left(), None
    for depth in range(min(len(names), _DEEPEST), 0, -1):
        folder = mount.joinpath(*names[:depth])
        one = _of_folder(folder)
        if one == Left():
            continue
        before = least(left.available_bytes, left.unthrottled_bytes)
        here = least(one.available_bytes, one.unthrottled_bytes)
        if here is not None and (before is None or here < before):
            place = "/" + "/".join(names[:depth])
        left = Left(
            least(left.available_bytes, one.available_bytes),
            least(left.unthrottled_bytes, one.unthrottled_bytes),
            least(left.swap_bytes, one.swap_bytes),
            place,
        )
    return left


def _of_folder(folder: Path) -> Left:
    """Pages of files that nobody uses now are no obstacle: the kernel drops them first."""
    used = _number(folder / "memory.current")
    if used is None:
        return Left()
    used -= min(used, _inactive_file(folder / "memory.stat"))
    limits = (_number(folder / name) for name in ("memory.max", "memory.high"))
    most, high = (None if limit is None else max(0, limit - used) for limit in limits)
    swap = _number(folder / "memory.swap.max")
    if swap is not None:
        swap = max(0, swap - (_number(folder / "memory.swap.current") or 0))
    return Left(most, high, swap)


def _number(file: Path) -> int | None:
    """None: `max`, or there is no such file."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def _inactive_file(file: Path) -> int:
    try:
        found = re.search(r"^inactive_file (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
