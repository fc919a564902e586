"""Find the CPython in a process: its version, and the addresses of its state."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from cowtrace.symbolizer.cpython.debug_offsets import version_and_threading
from cowtrace.symbolizer.cpython.elf_symbols import ElfSymbols
from cowtrace.symbolizer.cpython.layout import (
    Layout,
    confirmed,
    generations_found,
    layout_of,
    minor_of,
)
from cowtrace.symbolizer.cpython.memory import Memory, Read, UnreadableError
from cowtrace.symbolizer.memory_map import Mapping

_MOST_FILES = 16  # of one process that are searched for a CPython
# Before 3.11, the file tells the version without its micro version.
_VERSION_3_10, _VERSION_3_9 = 0x030A00F0, 0x030900F0
# Exported since that version, before which `Py_Version` is not.
_SINCE_3_10, _SINCE_3_9 = b"Py_NewRef", b"PyFrame_GetBack"
_INCREMENTAL = range(0x030E0000, 0x030E0500)  # gh-148726 brought the generations back to 3.14.5
_FINAL_RELEASE = 0xF  # in a PY_VERSION_HEX, above the serial of a pre-release
_OF_DEBUG_BUILDS = b"_Py_NegativeRefcount"  # only with Py_REF_DEBUG, which Py_DEBUG implies

# Opens the file of a mapping; None: it cannot be had. The descriptor is closed by who asked.
OpenFile = Callable[[Mapping], int | None]


@dataclass(frozen=True, slots=True)
class Runtime:
    """The main interpreter of one process. Addresses are of that process, and hostile.

    A child that this process forks has the same, until it runs another program.
    """

    version: int  # PY_VERSION_HEX; 3.9 and 3.10: as of 3.9.0 and 3.10.0
    path: str  # of the mapped file that has the interpreter; hostile
    bias: int  # address = the file's virtual address + bias
    layout: Layout
    runtime: int  # _PyRuntime
    interpreter: int  # PyInterpreterState

    # int: not 0 while the garbage collector runs
    collecting: int
    # int: the counts of generations 1 and 2, for `generation()`. None: they do not tell which is
    # collected. The incremental collector of 3.14.0 to 3.14.4 changes them at its end; all that it
    # does unless gc.collect() is called is an increment, which its gc.callbacks call generation 1.
    counts: tuple[int, int] | None
    # pointer: not NULL from that point of Py_FinalizeEx() on at which sys.is_finalizing() is true,
    # after threads were joined and atexit handlers have run. Until the process ends.
    finalizing: int
    # pointer to the PyThreadState that holds the GIL, or was the last that did
    gil_holder: int

    evaluates: int | None  # _PyEval_EvalFrameDefault(); None: the file does not export it

    type_type: int  # PyType_Type
    unicode_type: int
    dict_type: int
    code_type: int
    bytes_type: int


@dataclass(frozen=True, slots=True)
class Unsupported:
    """There is a CPython, but its memory cannot be read."""

    path: str  # hostile
    reason: str


def find_runtime(
    mappings: Iterable[Mapping], open_file: OpenFile, read: Read
) -> Runtime | Unsupported | None:
    """The CPython of a process, of its executable mappings in the order of their addresses.

    None: there is none, or it has not started yet.
    """
    refused: Unsupported | None = None
    for mapping in _candidates(mappings):
        fd = open_file(mapping)
        if fd is None:
            continue
        try:
            with suppress(ValueError, OSError, UnreadableError):
                found = _in_file(mapping, ElfSymbols(fd), read)
                if isinstance(found, Runtime):
                    return found
                refused = refused or found
        finally:
            os.close(fd)
    return refused


def _candidates(mappings: Iterable[Mapping]) -> list[Mapping]:
    """One mapping of each file that can have a CPython: the program, and what is called python."""
    files: dict[str, Mapping] = {}
    for mapping in mappings:
        if mapping.path.startswith("/"):
            files.setdefault(mapping.path, mapping)
    program, *rest = files.values() or [None]
    named = [each for each in rest if each and "python" in each.name]
    named.sort(key=lambda each: not each.name.startswith("libpython"))
    return [each for each in (program, *named) if each][:_MOST_FILES]


def _in_file(mapping: Mapping, file: ElfSymbols, read: Read) -> Runtime | Unsupported | None:
    """The CPython in that file. May raise UnreadableError."""
    start = file.virtual_address(mapping.offset)
    if start is None:
        return None
    bias = mapping.start - start

    def address(name: bytes) -> int | None:
        found = file.find(name)
        return None if found is None else found + bias

    runtime = address(b"_PyRuntime")
    types = [
        address(name)
        for name in (
            *(b"PyType_Type", b"PyUnicode_Type", b"PyDict_Type", b"PyCode_Type"),
            b"PyBytes_Type",
        )
    ]
    known = [each for each in types if each is not None]
    if runtime is None or len(known) != len(types):
        return None
    memory = Memory(read)

    def refuse(reason: str) -> Unsupported:
        return Unsupported(mapping.path, reason)

    if file.find(_OF_DEBUG_BUILDS) is not None:
        return refuse("a debug build")
    version = _version(file, memory, address)
    offsets = version_and_threading(memory, runtime)
    if offsets and offsets[1]:
        return refuse("a free-threaded build")
    if version and version >> 4 & 0xF != _FINAL_RELEASE:
        return refuse("a pre-release")
    if version is None or (layout := layout_of(version, read, runtime)) is None:
        return refuse("not CPython 3.9 to 3.14")
    interpreter = memory.word(runtime + layout.interpreters_main)
    if not interpreter:
        return None
    if not confirmed(memory, layout, known[0], interpreter):
        return refuse("its memory is laid out in an unknown way")
    gil = _gil_holder(memory, layout, runtime, interpreter)
    if not gil:
        return None
    layout = generations_found(memory, layout, interpreter)
    gc = interpreter + layout.gc
    counts = gc + layout.generation_count(1), gc + layout.generation_count(2)
    return Runtime(
        version,
        mapping.path,
        bias,
        layout,
        runtime,
        interpreter,
        gc + layout.gc_collecting,
        None if version in _INCREMENTAL else counts,
        runtime + layout.finalizing,
        gil,
        address(b"_PyEval_EvalFrameDefault"),
        *known,
    )


def _version(
    file: ElfSymbols, memory: Memory, address: Callable[[bytes], int | None]
) -> int | None:
    """PY_VERSION_HEX. None: older than 3.9."""
    at = address(b"Py_Version")
    if at is not None:
        version = memory.word(at)
        return version if minor_of(version) is not None else None
    if file.find(_SINCE_3_10) is not None:
        return _VERSION_3_10
    return _VERSION_3_9 if file.find(_SINCE_3_9) is not None else None


def _gil_holder(memory: Memory, layout: Layout, runtime: int, interpreter: int) -> int | None:
    """Where the GIL has its last holder. None: the interpreter has no GIL yet."""
    if layout.runtime_gil_holder is not None:
        return runtime + layout.runtime_gil_holder
    if layout.interpreter_gil is None or layout.gil_last_holder is None:
        return None
    gil = memory.word(interpreter + layout.interpreter_gil)
    return gil + layout.gil_last_holder if gil else None
