"""Processes as the symbolizer sees them, without the tracer that opens files for it."""

from __future__ import annotations

import os
from pathlib import Path

from cowtrace.symbolizer.memory_limit import MemoryLimit
from cowtrace.symbolizer.traced_process import Files, TracedProcess


def files() -> Files:
    """Without debug files and the vDSO; they may take any memory."""
    memory = MemoryLimit(lambda limit: None)
    memory.start_request(heap_bytes=1 << 62, symbol_bytes=1 << 62)
    return Files(lambda build_id: None, None, memory)


def traced(pid: int) -> TracedProcess:
    """A living process of this user."""
    process = TracedProcess(files())
    process.update(Path("/proc", str(pid), "maps").read_bytes(), 1)
    return process


def open_by_path(kind: str, _start: int, _end: int, path: str, *_: object) -> int | None:
    """Open a mapped file by its name."""
    assert kind == "file"
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
