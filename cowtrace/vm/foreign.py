"""Another architecture's programs run on this machine for a while: QEMU, as binfmt_misc has it.

Packages of a foreign root image are installed by its own dpkg and maintainer scripts, so that the
image is what Debian makes of it. Nothing stays registered that was not before.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cowtrace.errors import EXIT_NO_VM, CowtraceError
from cowtrace.vm import arch, programs

BINFMT = Path("/proc/sys/fs/binfmt_misc")
# An ELF file of 64 bits, little-endian, an executable or a shared object; then e_machine.
_HEAD = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00"
_HEAD_MASK = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff"
_E_MACHINE = {"amd64": 62, "arm64": 183}  # include/uapi/linux/elf-em.h


def require(debian: str) -> None:
    """Raises CowtraceError when what it takes to run that architecture is not installed."""
    guest = arch.of(debian)
    if guest != arch.native():
        programs.find(_interpreter(guest))
        programs.find("arch-test")  # mmdebstrap asks it


@contextlib.contextmanager
def runnable(debian: str) -> Iterator[None]:
    """That architecture's programs run in the block, in a chroot too.

    Raises CowtraceError where this machine does not allow it.
    """
    guest = arch.of(debian)
    if guest == arch.native() or _runs(debian):
        yield
        return
    require(debian)
    with _mounted():
        entry = BINFMT / f"cowtrace-{debian}"
        try:
            if entry.exists():  # of a build that was killed
                entry.write_text("-1")
            rule = registration(entry.name, debian, programs.find(_interpreter(guest)))
            (BINFMT / "register").write_bytes(rule)
        except OSError as error:
            raise _refused(debian, error.strerror or str(error)) from error
        try:
            yield
        finally:
            entry.write_text("-1")


def registration(name: str, debian: str, interpreter: str) -> bytes:
    """The line that binfmt_misc takes: Documentation/admin-guide/binfmt-misc.rst.

    F: the interpreter is opened now, so that it is there in a chroot.
    """
    machine = _E_MACHINE[debian].to_bytes(2, "little")
    magic = b"".join(b"\\x%02x" % byte for byte in _HEAD + machine)
    mask = b"".join(b"\\x%02x" % byte for byte in _HEAD_MASK + b"\xff\xff")
    return b":%s:M::%s:%s:%s:F" % (name.encode(), magic, mask, os.fsencode(interpreter))


def _interpreter(guest: arch.Arch) -> str:
    return f"qemu-{guest.machine}-static"


def _runs(debian: str) -> bool:
    """Whether it is registered already, or the processor does it."""
    try:
        return subprocess.run(["arch-test", debian], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _mounted() -> Iterator[None]:
    if (BINFMT / "register").exists():
        yield
        return
    ended = subprocess.run(
        ["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], capture_output=True, text=True
    )
    if ended.returncode:
        raise _refused("another architecture", ended.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", str(BINFMT)], check=False)


def _refused(debian: str, why: str) -> CowtraceError:
    return CowtraceError(
        f"programs of {debian} cannot be run on this machine: {why}",
        hint="it takes binfmt_misc in the kernel, and root outside of a container",
        exit_code=EXIT_NO_VM,
    )
