"""Anything at all, as the memory of a CPython: readers find something or nothing, and end."""

from __future__ import annotations

import itertools
import os
import random
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from cpython_subjects import opened, reader
from fuzzing import fuzzed
from hypothesis import given, settings
from hypothesis import strategies as st

from cowtrace.model import WriteCause
from cowtrace.symbolizer.cpython.code import CodeNames
from cowtrace.symbolizer.cpython.elf_symbols import ElfSymbols
from cowtrace.symbolizer.cpython.frames import frame_walk, walk
from cowtrace.symbolizer.cpython.line_tables import in_lnotab, in_locations, in_ranges
from cowtrace.symbolizer.cpython.memory import Memory, Read
from cowtrace.symbolizer.cpython.runtime import Runtime, Unsupported, find_runtime
from cowtrace.symbolizer.cpython.tables import TABLES
from cowtrace.symbolizer.cpython.types import TypeNames
from cowtrace.symbolizer.cpython.written import (
    RECORD_BYTES,
    Interpreter,
    WrittenWords,
    explain,
)
from cowtrace.symbolizer.memory_map import MemoryMap

MOST_READS = 6000  # of one look-up: a dictionary with the most keys, three for each
MOST_BYTES = 1 << 20
Lies = dict[int, int | bytes | None]  # by the number of the read


class Named:
    """A type of this process."""


@cache
def real() -> Read:
    return reader(os.open("/proc/self/mem", os.O_RDONLY))


@cache
def this_runtime() -> Runtime:
    mappings = MemoryMap(Path("/proc/self/maps").read_bytes()).mappings
    found = find_runtime(mappings, opened, real())
    assert isinstance(found, Runtime)
    return found


ADDRESSES = (
    *(id(type), id(Named), id(dict), id(Named.__dict__), id("text"), id(threading.Thread)),
    id(random.randint.__code__),
)
# What a read returns instead: None fails, a number is a pointer, bytes are repeated.
LIES = st.one_of(
    st.none(),
    st.sampled_from([0, 1, 4096, (1 << 56) - 1, 1 << 63, (1 << 64) - 1, *ADDRESSES]),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=16),
)
ABOUT_READS = st.dictionaries(st.integers(0, 40), LIES, max_size=6)
seeds = st.integers(0, 1 << 32)


class Counted:
    """Memory whose reads are counted, and bounded."""

    def __init__(self, read: Read, lies: Lies | None = None) -> None:
        self._read = read
        self._lies = lies or {}
        self.reads = 0
        self.bytes = 0

    def __call__(self, address: int, size: int) -> bytes:
        lie = self._lies.get(self.reads, self)
        self.reads += 1
        self.bytes += size
        assert self.reads <= MOST_READS
        assert self.bytes <= MOST_BYTES
        if lie is self:
            return self._read(address, size)
        if lie is None:
            raise OSError
        if isinstance(lie, int):
            return lie.to_bytes(8, "little")[:size].ljust(size, b"\0")
        assert isinstance(lie, bytes)
        return (lie * (size // max(len(lie), 1) + 1))[:size]


class Repeated:
    """Memory in which every word is the same."""

    def __init__(self, word: int) -> None:
        self._word = word.to_bytes(8, "little")

    def __call__(self, address: int, size: int) -> bytes:
        return (self._word * (size // 8 + 1))[:size]


def noise(seed: int, runtime: Runtime) -> Read:
    """Memory of random words, many of them pointers to known types."""
    words = [0, 1, 8, runtime.type_type, runtime.unicode_type, runtime.dict_type]
    words += [runtime.code_type, runtime.bytes_type, 0xFFFF_FFFF_FFFF_FFFF, 0x7F00_0000_0000]

    def word(address: int) -> bytes:
        chance = random.Random(seed ^ address)
        if chance.random() < 0.7:
            return chance.choice(words).to_bytes(8, "little")
        return chance.randbytes(8)

    def read(address: int, size: int) -> bytes:
        size = min(size, 4096)
        start = address & ~7
        data = b"".join(map(word, range(start, address + size, 8)))
        return data[address - start : address - start + size]

    return read


def made_runtime(minor: int) -> Runtime:
    return replace(this_runtime(), layout=TABLES[minor])


def look_everywhere(read: Read, runtime: Runtime, lies: Lies | None = None) -> None:
    """Each look-up has its own count."""

    def counted() -> Counted:
        return Counted(read, lies)

    for address in ADDRESSES:
        if found := TypeNames(counted(), runtime).at(address):
            assert found.name
            assert found.basic_bytes > 0
        place = CodeNames(counted(), runtime).at(address, address + 400)
        assert place is None or place.line is None or place.line >= 0
    frames = walk(counted(), frame_walk(runtime))
    assert len(frames) <= 64
    for frame in frames:
        CodeNames(counted(), runtime).at(frame.code, frame.instruction)


@fuzzed
@given(ABOUT_READS)
def test_memory_that_lies(lies: Lies) -> None:
    look_everywhere(real(), this_runtime(), lies)


@settings(fuzzed, max_examples=max(20, fuzzed.max_examples // 4))
@given(seeds, st.sampled_from(sorted(TABLES)))
def test_memory_of_random_words(seed: int, minor: int) -> None:
    runtime = made_runtime(minor)
    look_everywhere(noise(seed, runtime), runtime)


def test_memory_whose_every_word_is_one_pointer() -> None:
    """Chains that never end: each frame is its own caller, each type its own metaclass."""
    for minor, where in itertools.product(TABLES, ADDRESSES):
        runtime = made_runtime(minor)
        look_everywhere(Repeated(where), runtime)
        itself = replace(runtime, type_type=where, unicode_type=where, dict_type=where)
        itself = replace(itself, code_type=where, bytes_type=where)
        look_everywhere(Repeated(where), itself)


RECORDS = st.one_of(
    st.binary(min_size=RECORD_BYTES, max_size=RECORD_BYTES),
    # Words that are pointers to types, small numbers, and an address.
    st.lists(
        st.sampled_from([0, 1, 8, 48 << 32 | 1, id(list), *ADDRESSES]),
        min_size=RECORD_BYTES // 8,
        max_size=RECORD_BYTES // 8,
    ).map(lambda words: struct.pack(f"<{len(words)}Q", *words)),
)


@settings(fuzzed, max_examples=max(20, fuzzed.max_examples // 4))
@given(RECORDS, st.one_of(seeds, ABOUT_READS), st.sampled_from(sorted(TABLES)), st.booleans())
def test_writes_in_any_memory(raw: bytes, made: int | Lies, minor: int, splits: bool) -> None:
    runtime = made_runtime(minor)
    plain = noise(made, runtime) if isinstance(made, int) else real()
    read = Counted(plain, None if isinstance(made, int) else made)
    types = TypeNames(read, runtime)
    by = Interpreter(Memory(read), types.at, 4096 if minor < 10 else 16384, splits, bool, {}, True)
    cause, kind = explain(WrittenWords.of(raw), by)
    assert cause is None or isinstance(cause, WriteCause)
    assert kind is None or kind.name


@settings(fuzzed, max_examples=max(20, fuzzed.max_examples // 4))
@given(st.one_of(seeds, ABOUT_READS))
def test_a_runtime_in_any_memory(made: int | Lies) -> None:
    """The file of this Python, mapped into memory that is something else."""
    mappings = MemoryMap(Path("/proc/self/maps").read_bytes()).mappings
    read = noise(made, this_runtime()) if isinstance(made, int) else real()
    lies = None if isinstance(made, int) else made
    found = find_runtime(mappings, opened, Counted(read, lies))
    assert found is None or isinstance(found, Runtime | Unsupported)


@fuzzed
@given(st.binary(max_size=64), st.integers(-10, 1 << 31), st.integers(-4, 1000))
def test_line_tables(table: bytes, first: int, offset: int) -> None:
    for line_of in (in_lnotab, in_ranges, in_locations):
        line = line_of(table, first, offset)
        assert line is None or abs(line - first) < 1 << 40


@pytest.fixture(scope="module")
def own_file() -> Iterator[tuple[bytes, Path]]:
    """The file that exports `_PyRuntime`, its head."""
    path = Path(this_runtime().path)
    with path.open("rb") as file:
        yield file.read(1 << 20), path


changes = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 1024), st.integers(0, (1 << 20) - 8)),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, b"\0" * 8])),
    ),
    max_size=32,
)


@fuzzed
@given(changes)
def test_an_elf_file_of_other_bytes(
    own_file: tuple[bytes, Path], made: list[tuple[int, bytes]]
) -> None:
    changed = bytearray(own_file[0])
    for at, text in made:
        changed[at : at + len(text)] = text
    fd = os.memfd_create("changed")
    try:
        os.write(fd, changed)
        try:
            symbols = ElfSymbols(fd)
        except ValueError:
            return
        assert symbols.find(b"none of CPython's") is None
        found = symbols.find(b"_PyRuntime")
        assert found is None or found >= 0
        if not made and len(own_file[0]) == own_file[1].stat().st_size:
            assert found is not None
    finally:
        os.close(fd)


def test_files_that_are_none() -> None:
    for path in ("/dev/null", "/proc/self/maps", sys.modules[__name__].__file__, "/"):
        assert path
        fd = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(ValueError, match=r"."):
                ElfSymbols(fd)
        finally:
            os.close(fd)
