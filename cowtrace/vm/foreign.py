"""Run programs of another architecture while an image is built: register QEMU with binfmt_misc.

The dpkg and maintainer scripts of a foreign root image install its packages, so that the image
is what Debian makes it. The registration is removed afterwards.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cowtrace.errors import CowtraceError
from cowtrace.vm import VmError, guest_arch, host_programs

BINFMT = Path("/proc/sys/fs/binfmt_misc")
# A 64-bit little-endian ELF file, executable or shared object; e_machine follows.
_HEAD = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00"
_HEAD_MASK = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff"


def require(debian: str) -> None:
    """Raises CowtraceError if a program to run this architecture is not installed."""
    if guest_arch.of(debian) != guest_arch.native():
        _interpreter(debian)
        host_programs.find("arch-test")  # mmdebstrap calls it


@contextlib.contextmanager
def runnable(debian: str) -> Iterator[None]:
    """Make programs of this architecture run inside the `with` block, in a chroot too.

    Raises CowtraceError if this machine does not allow it.
    """
    if guest_arch.of(debian) == guest_arch.native() or _runs(debian):
        yield
        return
    with contextlib.ExitStack() as stack:
        if not (BINFMT / "register").exists():
            mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)]
            ended = host_programs.quietly(*mount)
            if ended.returncode:
                raise _refused("another architecture", os.fsdecode(ended.stderr).strip())
            stack.callback(host_programs.quietly, "umount", str(BINFMT))
        entry = BINFMT / f"cowtrace-{debian}"
        try:
            if entry.exists():  # left by a killed build
                entry.write_text("-1")
            rule = registration(entry.name, debian, _interpreter(debian))
            (BINFMT / "register").write_bytes(rule)
        except OSError as error:
            raise _refused(debian, error.strerror or str(error)) from error
        stack.callback(entry.write_text, "-1")
        yield


def registration(name: str, debian: str, interpreter: str) -> bytes:
    """The line to write to binfmt_misc/register: Documentation/admin-guide/binfmt-misc.rst.

    F: the kernel opens the interpreter now, so that a chroot does not need it.
    """
    machine = guest_arch.of(debian).elf_machine.to_bytes(2, "little")
    magic = b"".join(b"\\x%02x" % byte for byte in _HEAD + machine)
    mask = b"".join(b"\\x%02x" % byte for byte in _HEAD_MASK + b"\xff\xff")
    return b":%s:M::%s:%s:%s:F" % (name.encode(), magic, mask, os.fsencode(interpreter))


def _interpreter(debian: str) -> str:
    return host_programs.find(f"qemu-{guest_arch.of(debian).machine}-static")


def _runs(debian: str) -> bool:
    """True if it is registered already, or the processor can run it."""
    try:
        return host_programs.quietly("arch-test", debian).returncode == 0
    except FileNotFoundError:
        return False


def _refused(debian: str, why: str) -> CowtraceError:
    return VmError(
        f"programs of {debian} cannot be run on this machine: {why}",
        hint="this needs binfmt_misc in the kernel, and root outside of a container",
    )
