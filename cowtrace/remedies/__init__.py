"""Name the remedies that `cowtrace try --with` can apply from outside of a command.

Each changes the command's environment, or what it inherits from its parent. cowtrace writes to no
process: a remedy is a change that the user asked for by name.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cowtrace.errors import EXIT_USAGE, CowtraceError, did_you_mean
from cowtrace.libc import checked, libc
from cowtrace.text import printable

# include/uapi/linux/prctl.h; kept by fork(2) and by execve(2)
_PR_SET_THP_DISABLE, _PR_GET_THP_DISABLE = 41, 42
_ARENAS = re.compile(r"malloc-arena-max=([1-9]\d{0,3})")
_THP = "thp=never"
# What it does, as --help shows it.
WORDS: Mapping[str, str] = {
    "gc-freeze": "Python: gc.collect() and gc.freeze() before each fork",
    "no-gc-in-child": "Python: gc.disable() in each forked child",
    "os-exit": "Python: end forked children by os._exit() after atexit",
    "malloc-arena-max=1": "glibc: MALLOC_ARENA_MAX=1, or another number",
    _THP: "no transparent huge pages: prctl(PR_SET_THP_DISABLE)",
}
_PYTHON = frozenset({"gc-freeze", "no-gc-in-child", "os-exit"})
_HOOK = Path(__file__).parent / "python" / "sitecustomize.py"


@dataclass(frozen=True, slots=True)
class Remedies:
    """Those that one variant of a command is run with, each by its name."""

    names: tuple[str, ...] = ()

    @property
    def of_python(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name in _PYTHON)


NO_REMEDIES = Remedies()


def parse(words: str) -> Remedies:
    """`gc-freeze,malloc-arena-max=1`. Raises CowtraceError for a name that is unknown."""
    names = tuple(dict.fromkeys(words.split(",")))
    for name in names:
        if name not in WORDS and not _ARENAS.fullmatch(name):
            raise CowtraceError(
                f"no remedy is named {printable(name) or 'nothing'}",
                hint=f"{did_you_mean(name, WORDS)}they are {', '.join(WORDS)}",
                exit_code=EXIT_USAGE,
            )
    return Remedies(names)


class Hooks:
    """The folder of the module that applies remedies in Python, and a file for each variant.

    A variant without remedies of Python gets the module as well, switched off, where another has
    some: what the module itself costs is no difference then.
    """

    def __init__(self, folder: Path, all_of_them: Sequence[Remedies]) -> None:
        """`folder`: one of this process alone, which other users can enter."""
        self._folder = folder / "python"
        self._is_needed = any(each.of_python for each in all_of_them)
        self._cells = max(len(",".join(each.of_python)) for each in all_of_them)
        if self._is_needed:
            self._folder.mkdir(mode=0o755)
            # A copy: the user of a command may not be able to read the package.
            shutil.copyfile(_HOOK, self._folder / _HOOK.name)

    def environment(self, remedies: Remedies, applied: Path) -> dict[str, str]:
        """The variables to set. `applied`: a file that gets a byte when one was applied."""
        found = {}
        if arenas := [match[1] for name in remedies.names if (match := _ARENAS.fullmatch(name))]:
            found["MALLOC_ARENA_MAX"] = arenas[-1]
        if self._is_needed:
            if not applied.exists():
                applied.touch()
                applied.chmod(0o622)  # the command can run as another user
            before = os.environ.get("PYTHONPATH")
            paths = [str(self._folder), *([before] if before else [])]
            found["PYTHONPATH"] = os.pathsep.join(paths)
            found["COWTRACE_REMEDIES"] = ",".join(remedies.of_python).ljust(self._cells, ",")
            found["COWTRACE_APPLIED"] = str(applied)
        return found


def unapplied(remedies: Remedies, applied: Path) -> str | None:
    """A sentence if no process ever applied the remedies of Python."""
    if not remedies.of_python or (applied.exists() and applied.stat().st_size):
        return None
    return (
        f"{','.join(remedies.of_python)} was never applied: no Python process forked by os.fork(), "
        "or they ignore PYTHONPATH (-I, -E)."
    )


@contextmanager
def inherited(remedies: Remedies) -> Iterator[None]:
    """What is started in the block inherits the remedies that are no variable."""
    if _THP not in remedies.names:
        yield
        return
    before = _prctl(_PR_GET_THP_DISABLE, 0)
    _prctl(_PR_SET_THP_DISABLE, 1)
    try:
        yield
    finally:
        _prctl(_PR_SET_THP_DISABLE, before)


def _prctl(option: int, value: int) -> int:
    return checked(libc().prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3))
