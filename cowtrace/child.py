"""Start programs of the system, and cowtrace's own modules as processes of their own.

None comes from a place that another user can change: by `sudo -E` or `su`, PATH, PYTHONPATH and the
current folder are another user's.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.files import own_folder

ROOT = Path(__file__).resolve().parents[1]
_START = (  # alter_sys: what pickles a class looks for it in sys.modules
    "import runpy, sys; sys.path.append({root!r}); "
    "runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
)
_SYSTEM = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")  # a plain user's PATH may lack the first


def command(
    module: str, *arguments: str, root: str = str(ROOT), interpreter: str = sys.executable
) -> list[str]:
    """The command that runs a module of this package in an isolated Python.

    root, interpreter: where the package and Python are, if not here: in a chroot.
    """
    code = _START.format(root=root, module=module)
    return python(code, *arguments, interpreter=interpreter)


def python(code: str, *arguments: str, interpreter: str = sys.executable) -> list[str]:
    """The command that runs code in an isolated Python.

    It imports no module of the current folder, of PYTHONPATH or of the user's own.
    """
    return [interpreter, "-I", "-c", code, *arguments]


def search_path() -> str:
    """PATH without the folders that are relative, or that another user can change."""
    folders = []
    for folder in (*os.environ.get("PATH", "").split(os.pathsep), *_SYSTEM):
        with suppress(OSError, CowtraceError):
            if folder.startswith("/") and own_folder(Path(folder)):
                folders.append(folder)
    return os.pathsep.join(dict.fromkeys(folders))


def environment(**more: str) -> dict[str, str]:
    """For a program of the system: it and its children are found by `search_path`."""
    return {**os.environ, "PATH": search_path(), **more}
