"""Apply remedies to a Python program that forks; `cowtrace try` puts this folder on PYTHONPATH.

It runs in the program that is tried, of any Python 3.7 or newer: it imports nothing of cowtrace.
COWTRACE_REMEDIES names the remedies, COWTRACE_APPLIED a file that gets a byte when one is applied.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from _thread import get_ident
from importlib.machinery import PathFinder

TYPE_CHECKING = False  # as in typing, which would be an import of size in what is traced
if TYPE_CHECKING:
    from typing import Any, NoReturn

# Padded by commas: the environment of each variant has the same size.
_CHOSEN = os.environ.get("COWTRACE_REMEDIES", ",").split(",")
_SYS_EXIT, _SHOW = sys.exit, sys.excepthook
_MAIN = get_ident()
_marked = False
_forked = False
_code = 0  # of a forked child, when it ends


# Without a remedy, all is done in the same way, without what makes the remedy: what these functions
# write to is copied in each variant, and is no difference then.
def _before() -> None:
    """In the parent, before a fork."""
    global _marked
    if "gc-freeze" in _CHOSEN:
        gc.collect()
        gc.freeze()
    if not _marked:
        _marked = True
        try:
            file = os.open(os.environ["COWTRACE_APPLIED"], os.O_WRONLY | os.O_APPEND)
            os.write(file, b".")
            os.close(file)
        except (KeyError, OSError):
            pass


def _in_child() -> None:
    global _forked, _MAIN
    _forked, _MAIN = True, get_ident()
    sys.exit, sys.excepthook = _leaving, _failing
    if "no-gc-in-child" in _CHOSEN:
        gc.disable()


def _leaving(status: Any = None) -> NoReturn:
    """sys.exit() in a child: keep the exit code, which no function of atexit gets."""
    global _code
    if get_ident() == _MAIN:
        _code = status if isinstance(status, int) else int(status is not None)
    _SYS_EXIT(status)


def _failing(*error: Any) -> None:
    """sys.excepthook in a child."""
    global _code
    _code = 1
    _SHOW(*error)


def _end() -> None:
    """Registered first, so that it runs after all other functions of atexit."""
    if _forked and "os-exit" in _CHOSEN:
        for stream in (sys.stdout, sys.stderr):
            try:  # noqa: SIM105 - contextlib would be one more import in what is traced
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        os._exit(_code & 0xFF)


def _run_hidden() -> None:
    """Run the sitecustomize that this one hides, if the machine has one."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [path for path in sys.path if path != here]
    found = PathFinder.find_spec("sitecustomize", sys.path)
    code = found and found.loader and getattr(found.loader, "get_code", lambda _: None)(found.name)
    if found and code:
        exec(code, {"__name__": found.name, "__file__": found.origin})


if hasattr(os, "register_at_fork"):
    atexit.register(_end)
    os.register_at_fork(before=_before, after_in_child=_in_child)
_run_hidden()
