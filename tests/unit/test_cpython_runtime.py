"""The CPython of a process: found, its version, its collector and its end seen in memory."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from cpython_subjects import opened, reader, running, runtime_of
from pythons import every_python

from cowtrace.symbolizer.cpython.elf_symbols import ElfSymbols
from cowtrace.symbolizer.cpython.generation import generation
from cowtrace.symbolizer.cpython.runtime import Runtime, Unsupported, find_runtime
from cowtrace.symbolizer.memory_map import Mapping, MemoryMap


@every_python
def test_version_and_types_are_found(python: str) -> None:
    script = "say(version=sys.hexversion, type=id(type), str=id(str), bytes=id(bytes))"
    with running(python, script) as subject:
        said = subject.hear()
        runtime = subject.runtime
        known = runtime.version >> 16
        assert known == said["version"] >> 16
        assert runtime.version in (known << 16 | 0xF0, said["version"])
        assert runtime.layout.minor == known & 0xFF
        assert (runtime.type_type, runtime.unicode_type) == (said["type"], said["str"])
        assert runtime.bytes_type == said["bytes"]


def test_this_process_is_found_by_itself() -> None:
    mem = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        runtime = runtime_of("self", mem)
    finally:
        os.close(mem)
    assert isinstance(runtime, Runtime)
    assert runtime.type_type == id(type)


COLLECT = """
import gc
gc.disable()
class Garbage:
    def __del__(self):
        say(collecting=self.generation)
def make(generation):
    garbage = Garbage()
    garbage.itself = garbage
    garbage.generation = generation
for generation in (0, 1, 2, 0, 2, 1, 1, 2, 0):
    say(collecting=None)
    make(generation)
    gc.collect(generation)
"""


@every_python
def test_the_generation_under_collection_is_seen(python: str) -> None:
    with running(python, COLLECT) as subject:
        heard = []
        for said in subject.facts():
            runtime = subject.runtime
            collecting = subject.number(runtime.collecting)
            assert runtime.counts
            seen = generation(*map(subject.number, runtime.counts)) if collecting else None
            heard.append((said["collecting"], seen))
    assert [asked for asked, _ in heard if asked is not None] == [0, 1, 2, 0, 2, 1, 1, 2, 0]
    assert [asked for asked, _ in heard] == [seen for _, seen in heard]


END = """
import atexit
class AtEnd:
    def __del__(self, say=say):
        say(place="module")
at_end = AtEnd()
atexit.register(say, place="atexit")
say(place="running")
"""


@every_python
def test_the_end_of_the_interpreter_is_seen(python: str) -> None:
    with running(python, END) as subject:
        first = subject.hear()
        runtime = subject.runtime
        seen = {first["place"]: subject.number(runtime.finalizing, 8) != 0}
        subject.go_on()
        for said in subject.facts():
            seen[said["place"]] = subject.number(runtime.finalizing, 8) != 0
    assert seen == {"running": False, "atexit": False, "module": True}


def test_a_process_without_python_has_none() -> None:
    tail = shutil.which("tail")
    assert tail
    fd = os.open(tail, os.O_RDONLY)
    try:
        assert ElfSymbols(fd).find(b"_PyRuntime") is None
    finally:
        os.close(fd)
    program = Mapping(0x400000, 0x500000, 0, ("0:0", 1), tail)
    assert find_runtime([program], opened, lambda address, size: b"") is None


def made(version: int, *, offsets: int | None, free_threaded: bool) -> object:
    """What is found in this process with another `Py_Version`, and with debug offsets."""
    mem = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        real = reader(mem)
        mappings = MemoryMap(Path("/proc/self/maps").read_bytes()).mappings
        runtime = find_runtime(mappings, opened, real)
        assert isinstance(runtime, Runtime)

        def read(address: int, size: int) -> bytes:
            data = real(address, size)
            if data == sys.hexversion.to_bytes(8, "little"):
                return version.to_bytes(8, "little")
            if offsets is not None and address == runtime.runtime:
                head = b"xdebugpy", offsets.to_bytes(8, "little"), bytes([free_threaded])
                return b"".join(head)[:size].ljust(size, b"\0")
            return data

        return find_runtime(mappings, opened, read)
    finally:
        os.close(mem)


@pytest.mark.parametrize(
    ("version", "offsets", "free_threaded", "reason"),
    [
        (0x030D00F0, 0x030D00F0, True, "a free-threaded build"),
        (0x030E00B1, None, False, "a pre-release"),
        (0x030F00F0, None, False, "not CPython 3.9 to 3.14"),
        (0x030800F0, None, False, "not CPython 3.9 to 3.14"),
        (0x030D00F0, None, False, "not CPython 3.9 to 3.14"),  # without debug offsets
        (0x030D00F0, 0x030D01F0, False, "not CPython 3.9 to 3.14"),
        (0x030D00F0, 0x030D00F0, False, "its memory is laid out in an unknown way"),
    ],
)
def test_another_build_is_refused(
    version: int, offsets: int | None, free_threaded: bool, reason: str
) -> None:
    """This process says that it is one: nothing else in its memory fits."""
    found = made(version, offsets=offsets, free_threaded=free_threaded)
    assert isinstance(found, Unsupported)
    assert found.reason == reason


def test_what_has_not_started_is_not_there_yet() -> None:
    """Memory in which everything is 0, but for the version."""
    mappings = MemoryMap(Path("/proc/self/maps").read_bytes()).mappings
    mem = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        version = sys.hexversion.to_bytes(8, "little")

        def read(address: int, size: int) -> bytes:
            return version if reader(mem)(address, size) == version else bytes(size)

        assert find_runtime(mappings, opened, read) is None
    finally:
        os.close(mem)
