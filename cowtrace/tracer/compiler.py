"""Compile the BPF sources with BCC, in a child process: no other module imports BCC."""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cowtrace import child
from cowtrace.errors import EXIT_NO_PLAN, CowtraceError
from cowtrace.kernel.programs import map_spec
from cowtrace.shipped import bpf_dir
from cowtrace.tracer import host_compiler
from cowtrace.tracer.bytecode import Bytecode, with_kfuncs, with_maps

_INCLUDE = re.compile(r'#include "([^"]+)"\s*$')
_DEFINED = re.compile(r"#define (\w+)")
_IF = re.compile(r"#(if|ifdef|ifndef) (\w+)\s*$")


class CompileError(Exception):
    """BCC did not compile the source; with the first error that clang wrote to stderr."""


def bpf_text(folder: Path, defines: Mapping[str, int], main: str = "cow.bpf.c") -> str:
    """`main` with each `#include "..."` of the same folder replaced by that file.

    BCC rewrites map accesses in its main file only, not in headers. A file is inserted once, and
    not within `#if` of a macro that is not in `defines`. So it also is what the programs depend on.
    `#line` keeps compiler messages pointing at the real files.
    """
    files = {path.name: path.read_text() for path in folder.glob("*.[ch]")}
    own = set(_DEFINED.findall("\n".join(files.values())))
    return "\n".join(_expanded(files, main, set(), lambda line: _condition(line, defines, own)))


def _expanded(
    files: Mapping[str, str], name: str, there: set[str], condition: Callable[[str], bool | None]
) -> Iterator[str]:
    """`there`: headers that the text surely contains. `condition` of an `#if`; None: unknown."""
    there.add(name)
    conditions: list[bool | None] = []
    yield f'#line 1 "{name}"'
    for number, line in enumerate(files[name].splitlines(), 1):
        if line.startswith("#if"):
            conditions.append(condition(line))
        elif line.startswith("#else"):
            conditions[-1] = None if conditions[-1] is None else not conditions[-1]
        elif line.startswith("#endif"):
            conditions.pop()
        if include := _INCLUDE.match(line):
            if include[1] not in there and False not in conditions:
                sure = None not in conditions
                yield from _expanded(files, include[1], there if sure else set(there), condition)
            yield f'#line {number + 1} "{name}"'
        else:
            yield line


def _condition(line: str, defines: Mapping[str, int], own: Container[str]) -> bool | None:
    """Of `#ifdef NAME`, `#ifndef NAME` and `#if NAME`; None if the sources define it themselves."""
    found = _IF.match(line)
    if not found:
        return None
    kind, name = found.groups()
    if name.endswith("_H"):  # guards
        return True
    if name in own:
        return None
    return (name in defines) == (kind != "ifndef") if kind != "if" else bool(defines.get(name))


def headers() -> tuple[str, ...]:
    """BCC's "kernel headers": a handful of stubs, which the programs depend on as well."""
    return tuple(path.read_text() for path in sorted((bpf_dir() / "bcc-headers").rglob("*.h")))


def digest(text: str) -> str:
    """The SHA-256 of a source and of the headers."""
    return hashlib.sha256("\0".join((text, *headers())).encode()).hexdigest()


def flags_of(defines: Mapping[str, int]) -> list[str]:
    """The compiler's flags. Sorted: details are a set, whose order differs between processes."""
    return [f"-D{name}={value}" for name, value in sorted(defines.items())]


def environment(folder: Path) -> dict[str, str]:
    """Of the child. folder: bpf_dir(), where the child sees it: BCC reads headers from there."""
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    return {"BCC_KERNEL_SOURCE": str(folder / "bcc-headers"), "PATH": path}


def compile_source(text: str, flags: Sequence[str]) -> Bytecode:
    """Compile a source. Raises CompileError; CowtraceError when BCC is missing.

    In a child process: the compiler needs 100 MB, BCC closes descriptors as it sees fit, and
    neither its environment nor its messages are to be seen elsewhere.
    """
    if compiled := host_compiler.ask(digest(text), flags):
        return Bytecode.from_bytes(compiled)
    ended = subprocess.run(
        child.command(__name__, *flags),
        input=text.encode(),
        capture_output=True,
        check=False,
        env=environment(bpf_dir()),
    )
    if ended.returncode == 0:
        return Bytecode.from_bytes(ended.stdout)
    said = ended.stderr.decode(errors="replace").splitlines()
    if ended.returncode == EXIT_NO_PLAN:
        raise _missing()
    errors = (line for line in said if "error:" in line)
    raise CompileError(next(errors, said[-1] if said else f"exit code {ended.returncode}"))


def main() -> None:
    """The child: the source on stdin, its flags as arguments, the bytecode on stdout."""
    bpf_class = _import_bcc()
    bpf = bpf_class.__new__(bpf_class)
    bpf._trace_autoload = lambda: None  # or BCC loads and attaches programs by their names
    # No debugging information: generating it is a fifth of the compile time, and it is not kept.
    bpf.__init__(text=sys.stdin.read(), cflags=[*sys.argv[1:], "-g0"])
    sys.stdout.buffer.write(_taken_from(bpf).to_bytes())


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


def _import_bcc() -> Any:
    """BCC's class BPF. Exits with EXIT_NO_PLAN when it is not installed."""
    try:
        import bcc

        return bcc.BPF
    except (ImportError, AttributeError):
        sys.exit(EXIT_NO_PLAN)


def _missing() -> CowtraceError:
    return CowtraceError(
        "BCC's Python module is missing",
        hint="apt install python3-bpfcc (PyPI's bcc is another program); "
        "a venv needs --system-site-packages",
        exit_code=EXIT_NO_PLAN,
    )


if __name__ == "__main__":
    main()
