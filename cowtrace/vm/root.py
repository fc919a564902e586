"""Build the root image: install Debian packages into a folder, and make an ext4 image of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from cowtrace.vm import GUEST, manifest, stable
from cowtrace.vm.debian import mmdebstrap
from cowtrace.vm.definition import Userspace

NEED_MIB = 2500  # the installed packages twice: as a folder, and in the image
IMAGE = "root.ext4"
_LEFT_OUT = ("doc/*", "info/*", "locale/*", "man/*")  # a test VM does not need these


def build(
    user: Userspace, mirror: str, place: Path, unpacked: Path, run: Callable[..., None]
) -> tuple[str, ...]:
    """Put IMAGE into `place`; returns NAME=VERSION of every package in it.

    unpacked: an empty folder to work in. run: `host_programs.run`, log and lock bound.
    Raises CowtraceError when a step fails.
    """
    begun = time.time()
    options = [
        "--variant=essential",
        *(f"--dpkgopt=path-exclude=/usr/share/{path}" for path in _LEFT_OUT),
        f'--customize-hook=sh {GUEST / "customize"} "$1"',
    ]
    what = f"installing the {user.suite} userspace"
    mmdebstrap(mirror, (user.suite,), user.arch, user.packages, unpacked, options, run, what)
    packages = manifest.installed((unpacked / "var/lib/dpkg/status").read_text())
    epoch = stable.newest(unpacked, begun)
    stable.settle(unpacked, epoch)
    stable.ext4(unpacked, place / IMAGE, user.size_mib, epoch, run, what="making the root image")
    shutil.rmtree(unpacked)
    return packages
