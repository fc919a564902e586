"""The tables of CPython's layout, compared with what a C compiler makes of CPython's headers.

With the headers of the Python that runs the tests, and with those in the folders that
COWTRACE_TEST_HEADERS names, separated by colons: each has a Python.h and internal/.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from cowtrace.symbolizer.cpython.debug_offsets import with_debug_offsets
from cowtrace.symbolizer.cpython.memory import Memory
from cowtrace.symbolizer.cpython.tables import TABLES

SOURCE = Path(__file__).with_name("cpython_offsets.c")
FOLDERS = [
    sysconfig.get_path("include"),
    *filter(None, os.environ.get("COWTRACE_TEST_HEADERS", "").split(":")),
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_tables_are_what_the_headers_say(folder: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if not compiler or not Path(folder, "internal", "pycore_runtime.h").is_file():
        pytest.skip("no C compiler, or no headers of Python")
    program = tmp_path / "offsets"
    # Debian: pyconfig.h is in a folder of the architecture, beside that of the version.
    includes = [f"-I{each}" for each in (folder, Path(folder, "internal"), Path(folder).parent)]
    made = subprocess.run(
        [compiler, "-w", *includes, SOURCE, "-o", program], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"the headers cannot be compiled: {made.stderr[:200]!r}")
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    numbers = {name: int(value) for name, _, value in map(str.split, _spaced(printed))}
    table = TABLES[numbers["minor"]]
    known = dataclasses.asdict(table)
    known["thread_frame"], *second = known["thread_frame"]
    if second:
        (known["thread_frame_second"],) = second
    if table.minor >= 13:  # of these, the running process tells: 20 or 24
        assert numbers.pop("gc_generations") in (20, 24)
        assert numbers.pop("finalizing") > 0
    assert numbers.items() <= known.items(), set(numbers.items()) - set(known.items())
    assert len(numbers) > 40


def _spaced(text: str) -> list[str]:
    return [line.replace(" ", " = ") for line in text.splitlines()]


def test_implausible_debug_offsets_are_refused() -> None:
    """Offsets of a hostile process must not lead far away."""
    for minor in (13, 14):
        table = TABLES[minor]
        huge = Memory(lambda address, size: b"\xff" * size)
        assert with_debug_offsets(table, huge, 0x10000) is None
        unreadable = Memory(lambda address, size: b"")
        assert with_debug_offsets(table, unreadable, 0x10000) is None
        zeroes = with_debug_offsets(table, Memory(lambda address, size: bytes(size)), 0x10000)
        assert zeroes
        assert zeroes.thread_frame == (0,)
