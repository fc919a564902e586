"""Start cowtrace's own modules as processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# Isolated (-I): no module of the current folder, of PYTHONPATH or of the user's own is imported.
_START = (
    "import runpy, sys; sys.path.append({root!r}); runpy.run_module({module!r}, None, '__main__')"
)


def command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this package in an isolated Python."""
    start = _START.format(root=str(_ROOT), module=module)
    return [sys.executable, "-I", "-c", start, *arguments]
