"""Build the root image: install Debian packages into a folder, and make an ext4 image of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from cowtrace.vm import manifest, programs, stable
from cowtrace.vm.definition import Userspace

GUEST = Path(__file__).parent / "guest"
NEED_MIB = 2500  # the installed packages twice: as a folder, and in the image
IMAGE = "root.ext4"
# Not needed in a test VM.
_LEFT_OUT = ("doc/*", "info/*", "locale/*", "man/*")


def build(
    user: Userspace, mirror: str, place: Path, unpacked: Path, run: Callable[..., None]
) -> tuple[str, ...]:
    """Put IMAGE into `place`; returns NAME=VERSION of every package in it.

    unpacked: an empty folder to work in. run: `programs.run`, log and lock bound.
    Raises CowtraceError when a step fails.
    """
    begun = time.time()
    run(
        programs.isolated(
            [
                *(programs.find("mmdebstrap"), "--variant=essential", "--mode=root"),
                *(f"--dpkgopt=path-exclude=/usr/share/{path}" for path in _LEFT_OUT),
                '--aptopt=APT::Sandbox::User "root"',  # _apt cannot enter root's cache folder
                f"--architectures={user.arch}",
                '--aptopt=Acquire::Check-Valid-Until "false"',
                f"--include={','.join(user.packages)}",
                f'--customize-hook=sh {GUEST / "customize"} "$1"',
                *(user.suite, str(unpacked), f"deb {mirror} {user.suite} main"),
            ]
        ),
        what=f"installing the {user.suite} userspace",
    )
    packages = manifest.installed((unpacked / "var/lib/dpkg/status").read_text())
    epoch = stable.newest(unpacked, begun)
    stable.settle(unpacked, epoch)
    stable.ext4(unpacked, place / IMAGE, user.size_mib, epoch, run, what="making the root image")
    shutil.rmtree(unpacked)
    return packages
