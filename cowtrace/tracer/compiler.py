"""Compile the BPF sources and name addresses with BCC, which no other module imports."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.programs import map_spec
from cowtrace.libc import libc
from cowtrace.shipped import bpf_dir
from cowtrace.tracer.bytecode import Bytecode, with_kfuncs, with_maps

_INCLUDE = re.compile(r'#include "([^"]+)"\s*$')


class CompileError(Exception):
    """BCC did not compile the source; with the first error that clang wrote to stderr."""


def bpf_text(folder: Path, main: str = "cow.bpf.c") -> str:
    """`main` with each `#include "..."` of the same folder replaced by that file.

    BCC rewrites map accesses in its main file only, not in headers. Include guards and `#if` act
    as ever; `#line` keeps compiler messages pointing at the real files.
    """
    return "\n".join(_expanded(folder, main))


def _expanded(folder: Path, name: str) -> Iterator[str]:
    yield f'#line 1 "{name}"'
    for number, line in enumerate((folder / name).read_text().splitlines(), 1):
        if include := _INCLUDE.match(line):
            yield from _expanded(folder, include[1])
            yield f'#line {number + 1} "{name}"'
        else:
            yield line


def compile_source(text: str, flags: Sequence[str]) -> Bytecode:
    """Compile a source. Raises CompileError; CowtraceError when BCC is missing."""
    bpf_class = _import_bcc()
    bpf = bpf_class.__new__(bpf_class)
    bpf._trace_autoload = lambda: None  # or BCC loads and attaches programs by their names
    with _stderr_to_file() as log:
        try:
            bpf.__init__(text=text, cflags=flags)
            return _taken_from(bpf)
        except Exception as error:  # BCC raises bare Exception for every failure
            errors = (line for line in log().splitlines() if "error:" in line)
            raise CompileError(next(errors, str(error))) from None
        finally:
            with suppress(AttributeError):  # it failed before there was anything to clean up
                bpf.cleanup()
            libc().malloc_trim(0)  # give back what the compiler used


def _taken_from(bpf: Any) -> Bytecode:
    from bcc.libbcc import lib

    # BCC's Python module does not declare these two functions.
    name_of, fd_of = lib.bpf_table_name, lib.bpf_table_fd_id
    name_of.argtypes = fd_of.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    name_of.restype = ctypes.c_char_p
    module = bpf.module
    maps = {
        name_of(module, i).decode(): fd_of(module, i) for i in range(lib.bpf_num_tables(module))
    }
    places = {fd: place for place, fd in enumerate(maps.values())}
    functions = [lib.bpf_function_name(module, i) for i in range(lib.bpf_num_functions(module))]
    return Bytecode(
        tuple(map_spec(name, fd) for name, fd in maps.items()),
        tuple(
            (name.decode(), with_maps(with_kfuncs(bpf.dump_func(name)), places.__getitem__))
            for name in functions
        ),
    )


def symbol(address: int, pid: int | None) -> tuple[str, str]:
    """(function, module's file name) of an address; pid None: the kernel's. Empty: unknown."""
    bpf = _import_bcc()
    if pid is None:
        return bpf.ksym(address).decode(errors="backslashreplace"), "[kernel]"
    name: bytes = bpf.sym(address, pid, show_module=True)
    function, _, module = name.decode(errors="backslashreplace").rpartition(" [")
    return function or module, module.removesuffix("]") if function else ""


@cache  # symbol() is called by the thousand
def _import_bcc() -> Any:
    """BCC's class BPF. Raises CowtraceError when it is not installed."""
    # BCC reads its "kernel headers" from here: a handful of stubs, see bpf/bcc-headers.
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_dir() / "bcc-headers")
    missing = CowtraceError(
        "BCC's Python module is missing",
        hint="apt install python3-bpfcc (PyPI's bcc is another program); "
        "a venv needs --system-site-packages",
        exit_code=EXIT_NO_PLAN,
    )
    try:
        import bcc
    except ImportError:
        raise missing from None
    if not hasattr(bcc, "BPF"):
        raise missing
    return bcc.BPF


@contextmanager
def _stderr_to_file() -> Iterator[Any]:
    """Catch what C libraries write to stderr; yields a function that reads it."""
    saved = os.dup(2)
    with os.fdopen(os.memfd_create("stderr"), "r+b") as file:

        def written() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        os.dup2(file.fileno(), 2)
        try:
            yield written
        finally:
            os.dup2(saved, 2)
            os.close(saved)
