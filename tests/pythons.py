"""Find interpreters for tests of CPython's memory.

Which: the Python that runs the tests, each python3.9 to python3.14 in a folder of PATH that is no
script (as pyenv's are), and what COWTRACE_TEST_PYTHONS names, separated by colons.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

NAMES = [f"python3.{minor}" for minor in range(9, 15)]


def pythons() -> list[str]:
    """Paths of interpreters. Some may not start."""
    found = {str(Path(sys.executable).resolve()): sys.executable}
    on_path = [Path(folder, name) for folder in os.get_exec_path() for name in NAMES]
    named = os.environ.get("COWTRACE_TEST_PYTHONS", "").split(":")
    for path in (*filter(_is_program, on_path), *(Path(each) for each in named if each)):
        found.setdefault(str(path.resolve()), str(path))
    return list(found.values())


def _is_program(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


every_python = pytest.mark.parametrize("python", pythons())
