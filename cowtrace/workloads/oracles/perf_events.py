"""Open perf events: uprobes, and counts of a tracepoint by this thread. Closing ends them."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cowtrace.libc import checked, libc, perf_event_open

# struct perf_event_attr up to config2: type, size, config, sample_period, sample_type,
# read_format, flags, wakeup_events, bp_type, config1, config2.
_ATTR = struct.Struct("=IIQQQQQIIQQ")
_TYPE_TRACEPOINT = 2
_UPROBE = Path("/sys/bus/event_source/devices/uprobe/type")

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on every architecture
_FSCONFIG_CMD_CREATE = 6
_MMAP_LOCK = "mmap_lock/mmap_lock_acquire_returned"


def open_event(
    kind: int, config: int, config1: int = 0, config2: int = 0, *, pid: int, cpu: int
) -> int:
    """perf_event_open(2): a descriptor. Raises OSError, or KeyError on other architectures."""
    attr = _ATTR.pack(kind, _ATTR.size, config, 0, 0, 0, 0, 0, 0, config1, config2)
    return perf_event_open(attr, pid, cpu)


def set_uprobe(path: str, offset: int) -> int:
    """Set a uprobe in all processes that map this place of a file, until it is closed.

    Raises OSError, ValueError or KeyError where there are none, or it is refused.
    """
    kind = int(_UPROBE.read_text(encoding="ascii"))
    name = ctypes.create_string_buffer(os.fsencode(path))
    return open_event(kind, 0, ctypes.addressof(name), offset, pid=-1, cpu=0)


@contextmanager
def mmap_locks() -> Iterator[Callable[[], int] | None]:
    """A function that returns how often this thread has taken an mmap lock; None: not counted.

    By a tracepoint: "mm: mmap_lock: add tracepoints around lock acquisition" (5.11).
    """
    try:
        number = _tracepoint(_MMAP_LOCK)
        event = open_event(_TYPE_TRACEPOINT, number, pid=0, cpu=-1)
    except (OSError, ValueError, KeyError):
        yield None
        return
    try:
        yield lambda: int.from_bytes(os.read(event, 8), "little")
    finally:
        os.close(event)


def _tracepoint(name: str) -> int:
    """Its number, read in an instance of tracefs that is mounted nowhere."""
    call = libc().syscall
    context = checked(call(_FSOPEN, b"tracefs", 0))
    try:
        checked(call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0))
        mount = checked(call(_FSMOUNT, context, 0, 0))
    finally:
        os.close(context)
    try:
        file = os.open(f"events/{name}/id", os.O_RDONLY, dir_fd=mount)
        with os.fdopen(file) as text:
            return int(text.read())
    finally:
        os.close(mount)
