"""/proc/vmstat: the kernel's counts for the whole system, so other processes are in them."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from pathlib import Path

from cowtrace.workloads.counts import Evidence

VMSTAT = Path("/proc/vmstat")


def read(name: str) -> int | None:
    """One counter; None where this kernel has none of that name."""
    for line in VMSTAT.read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None


@contextmanager
def at_least(evidence: MutableSequence[Evidence], name: str, wanted: int) -> Iterator[None]:
    """The counter must grow by `wanted` in the block, or by more, since others are in it."""
    before = read(name)
    yield
    after = read(name)
    if before is None or after is None:
        what = f"this kernel does not count {name}"
        evidence.append(Evidence("vmstat", what, None, None, None))
        return
    seen = after - before
    what = f"{name}, at least (all processes)"
    evidence.append(Evidence("vmstat", what, wanted, seen, seen >= wanted))
