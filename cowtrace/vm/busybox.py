"""Unpack a static busybox: the shell of the initrd of kernels that the user names by a path."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from cowtrace.vm import manifest
from cowtrace.vm.debian import mmdebstrap
from cowtrace.vm.definition import Busybox
from cowtrace.vm.kernel import only

PROGRAM = "busybox"
_PACKAGE = "busybox-static"


def build(
    what: Busybox, mirror: str, place: Path, unpacked: Path, run: Callable[..., None]
) -> tuple[str, tuple[str, ...]]:
    """Put PROGRAM into `place`; returns its version, and NAME=VERSION of its package.

    unpacked: an empty folder to work in. run: `host_programs.run`, log and lock bound.
    Raises CowtraceError when a step fails.
    """
    step = f"unpacking {_PACKAGE} of {what.suite}"
    suites, extract = (what.suite,), ["--variant=extract"]
    mmdebstrap(mirror, suites, what.arch, (_PACKAGE,), unpacked, extract, run, step)
    program = only(unpacked, "usr/bin/busybox", "bin/busybox")
    shutil.copy(program, place / PROGRAM)
    version = manifest.busybox(program.read_bytes())
    return version, (f"{_PACKAGE}={version}",)
