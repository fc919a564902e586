"""Fork; the child writes pages of one mapping, in functions that are called in many ways.

The first line to stdout: this CPython's minor version, the mapping's address and size. A line to
stdin forks. Then the child says, for each way of calling, how many pages it wrote with which
frames of Python, and waits for a line.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.abc
import importlib.machinery
import json
import mmap
import os
import sys
import types
from collections.abc import Iterator

Place = tuple[str, str, int]  # function, file, line
PAGE_BYTES = int(sys.argv[1])
PAGES = 211
memory = mmap.mmap(-1, PAGES * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
places = iter(range(0, PAGES * PAGE_BYTES, PAGE_BYTES))
noted: list[tuple[int, list[Place]]] = []
kept: list[types.CodeType] = []  # code that must have its name until it is read


def names(frame: types.FrameType | None) -> list[Place]:
    found: list[Place] = []
    while frame:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        found.append((name, code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return found


def write(pages: int) -> None:
    me, *callers = names(sys._getframe())
    for _ in range(pages):
        memory[next(places)] = 1
        line = sys._getframe().f_lineno - 1
    noted.append((pages, [(*me[:2], line), *callers]))


def calls() -> None:
    write(7)
    inner()
    write(2)


def inner() -> None:
    write(5)
    innermost()


def innermost() -> None:
    write(3)


def key(item: int) -> int:
    write(item)
    return -item


def from_c() -> None:
    sorted([11], key=key)
    write(2)


def add(one: int, other: int) -> int:
    return sum(sorted([one, other], key=key))


def from_c_twice() -> None:
    functools.reduce(add, [3, 5])
    list(map(key, [13]))


def generate(pages: int) -> Iterator[None]:
    write(pages)
    yield
    yield from generate(pages - 1) if pages > 2 else ()


def generators() -> None:
    for _ in generate(4):
        write(2)
    list(generate(3))
    [*map(next, [generate(2)])]


class Made:
    def __init__(self, pages: int) -> None:
        self.pages = pages
        if pages:
            write(pages)

    def __del__(self) -> None:
        if self.pages:
            write(self.pages)


def methods() -> int:
    for each in range(64):
        Made(5 if each == 63 else 0)
    made = Made(3)
    return made.pages


def compares() -> list[bool]:
    class Compared(Made):
        def __eq__(self, other: object) -> bool:
            write(5)
            return True

        __hash__ = None  # type: ignore[assignment]

    return [Compared(0) == each in [Compared(0)] for each in range(2)]


def only_c() -> None:
    at = [next(places) for _ in range(13)]
    (_, file, line), *callers = names(sys._getframe())
    noted.append((13, [("only_c", file, line + 2), *callers]))
    list(map(memory.__setitem__, at, [1] * 13))


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == "made_up" else None

    def exec_module(self, module: types.ModuleType) -> None:
        text = "class Body:\n    write(7)\n\nwrite(5)\n"
        kept.append(compile(text, "/made_up.py", "exec"))
        exec(kept[-1], {"write": write, "__name__": "made_up"})


def imports() -> None:
    import made_up  # type: ignore[import-not-found] # noqa: F401


def main() -> None:
    memory[:] = bytes(len(memory))
    sys.meta_path.insert(0, Importer())
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    print(sys.version_info[1], start, len(memory), flush=True)
    sys.stdin.readline()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    for way in (
        *(calls, from_c, from_c_twice, generators, methods, compares),
        *(only_c, imports),
    ):
        noted.clear()
        way()
        print(json.dumps([way.__name__, noted]), flush=True)
        sys.stdin.readline()
    os._exit(0)


main()
