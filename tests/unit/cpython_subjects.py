"""Start interpreters that run a script, and read their memory while they wait."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cowtrace.symbolizer.cpython.runtime import Runtime, Unsupported, find_runtime
from cowtrace.symbolizer.memory_map import Mapping, MemoryMap

# say(name=value) writes a line, and waits until the test has read what it wants.
PRELUDE = """
import json, os, sys
def say(_write=os.write, _read=os.read, _dumps=json.dumps, **facts):
    _write(1, (_dumps(facts) + "\\n").encode())
    _read(0, 1)
"""


def opened(mapping: Mapping) -> int | None:
    """Open a mapped file by its name."""
    try:
        return os.open(mapping.path, os.O_RDONLY)
    except OSError:
        return None


def reader(mem: int) -> Callable[[int, int], bytes]:
    """Read an open /proc/PID/mem."""
    return lambda address, size: os.pread(mem, size, address)


def runtime_of(pid: int | str, mem: int) -> Runtime | Unsupported | None:
    mappings = MemoryMap(Path("/proc", str(pid), "maps").read_bytes()).mappings
    return find_runtime(mappings, opened, reader(mem))


class Subject:
    """A running script. Its memory can be read from its first word on."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._mem: int | None = None

    @property
    def mem(self) -> int:
        """Opened when the script runs: before, a wrapper's shell may."""
        if self._mem is None:
            try:
                self._mem = os.open(f"/proc/{self.process.pid}/mem", os.O_RDONLY)
            except PermissionError as error:
                pytest.skip(f"the memory of a child cannot be read: {error}")
        return self._mem

    def read(self, address: int, size: int) -> bytes:
        return os.pread(self.mem, size, address)

    def hear(self) -> dict[str, Any]:
        """What the script says next."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the script has ended"
        heard: dict[str, Any] = json.loads(line)
        return heard

    def go_on(self) -> None:
        """Let it run."""
        assert self.process.stdin
        self.process.stdin.write(b"x")
        self.process.stdin.flush()

    def facts(self) -> Iterator[dict[str, Any]]:
        """What it says until it ends, stopped at each."""
        assert self.process.stdout
        while line := self.process.stdout.readline():
            yield json.loads(line)
            self.go_on()

    @property
    def runtime(self) -> Runtime:
        found = runtime_of(self.process.pid, self.mem)
        assert isinstance(found, Runtime), found
        return found

    def number(self, address: int, size: int = 4) -> int:
        """An unsigned number in its memory."""
        return int.from_bytes(self.read(address, size), "little")

    def close(self) -> None:
        self.process.kill()
        if self._mem is not None:
            os.close(self._mem)


@contextmanager
def running(python: str, script: str) -> Iterator[Subject]:
    """A script that was started; skips the test where that Python does not start."""
    check = subprocess.run([python, "-I", "-c", ""], capture_output=True, check=False)
    if check.returncode:
        pytest.skip(f"{python} does not start")
    process = subprocess.Popen(
        [python, "-I", "-c", PRELUDE + script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        subject = Subject(process)
        try:
            yield subject
        finally:
            subject.close()
