"""Find the files that ship with cowtrace and are not Python, in a checkout or in a wheel."""

from __future__ import annotations

from pathlib import Path

from cowtrace.errors import CowtraceError

_PACKAGE = Path(__file__).resolve().parent


def shipped_dir(name: str) -> Path:
    """The top-level folder `name` of the project: the wheel's copy, else the checkout's own.

    A wheel carries it as `cowtrace/_NAME` (`force-include` in pyproject.toml); an editable
    install has no such copy. Raises CowtraceError when neither is there.
    """
    # The wheel's first: beside an installed package, `name` may be somebody else's.
    for folder in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise CowtraceError(
        f"cowtrace's own {name}/ folder is missing beside {_PACKAGE}",
        hint="the installation is incomplete: reinstall cowtrace, or run it from a full checkout",
    )


def bpf_dir() -> Path:
    """The folder with cow.bpf.c. Raises CowtraceError when it is missing."""
    return shipped_dir("bpf")


def vagrant_dir() -> Path:
    """The folder with kernels.toml, the test VM's definition. Raises CowtraceError without it."""
    return shipped_dir("vagrant")
