"""Memory that is left: of the machine, and of the cgroup that a process is in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Left:
    """What one owner of memory has left. All None: unknown, or without a limit."""

    available_bytes: int | None = None  # without swap: MemAvailable, or up to memory.max
    unthrottled_bytes: int | None = None  # of a cgroup: up to memory.high
    swap_bytes: int | None = None  # of a cgroup without a limit of its own: None
    place: str | None = None  # the cgroup whose limit is nearest. Hostile


@dataclass(frozen=True, slots=True)
class MemoryLeft:
    """What a process can still allocate at one moment."""

    machine: Left
    cgroup: Left = Left()

    @property
    def available_bytes(self) -> int | None:
        """Without swap, and without being throttled at memory.high. None: unknown."""
        return least(
            self.machine.available_bytes,
            self.cgroup.available_bytes,
            self.cgroup.unthrottled_bytes,
        )

    @property
    def most_bytes(self) -> int | None:
        """With swap, and throttled: with more, the kernel kills. None: unknown."""
        swap = least(self.machine.swap_bytes, self.cgroup.swap_bytes) or 0
        available = least(self.machine.available_bytes, self.cgroup.available_bytes)
        return None if available is None else available + swap


def least(*sizes: int | None) -> int | None:
    """The least of those that are known."""
    known = [size for size in sizes if size is not None]
    return min(known) if known else None
