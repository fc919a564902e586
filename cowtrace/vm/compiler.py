"""Compile BPF programs for an emulated guest: the host's end of cowtrace/tracer/host_compiler.py.

It runs the guest's own BCC, from the guest's root image mounted read-only, so the bytes are the
same. The guest is not trusted. It chooses numbers, never the source: the host compiles its own.
"""

from __future__ import annotations

import json
import operator
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from cowtrace import child, files
from cowtrace.errors import CowtraceError
from cowtrace.kernel.limits import SLOTS
from cowtrace.kernel.plan import CELLS
from cowtrace.shipped import bpf_dir
from cowtrace.vm import host_programs
from cowtrace.vm.bootable import Hardware
from cowtrace.vm.guest_arch import Arch, native
from cowtrace.vm.qemu import Accel

_MOST_BYTES = 1 << 16  # of a request
_LIMIT_SECONDS = 20
_FIELDS = "number", "digest", "flags"
_NUMBER = re.compile(r"[0-9a-f]{16}")
_FLAG = re.compile(r"-D([A-Z]\w*)=(-?[0-9]{1,19})", re.ASCII)
_MOST = {"SLOTS": SLOTS, "CELLS": CELLS}  # sizes of maps, which the compiler makes on this machine
# BCC puts bpf_probe_read in place of bpf_probe_read_kernel and bpf_probe_read_user, unless it finds
# them in /proc/kallsyms. Every guest has both, since 5.5. The shell stays the first process of its
# PID namespace: with it ends the compiler, whatever that does.
_SCRIPT = r"""set -e
umask 022
mount -o loop,ro,noload,nodev,nosuid "$1" "$2"
mount --bind -o ro "$3" "$2/mnt"
mount -t proc proc "$2/proc"
mount -t tmpfs -o size=64k,mode=755 symbols "$2/tmp"
printf 'ffffffff81000000 T bpf_probe_read_%s\n' kernel user >"$2/tmp/kallsyms"
mount --bind "$2/tmp/kallsyms" "$2/proc/kallsyms"
root=$2
shift 3
ulimit -v 4194304  # KiB
chroot "$root" "$@"
exit
"""
_NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child")
_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
    # BCC makes the maps when it compiles.
    *(f"--{which}=-all,+bpf" for which in ("inh-caps", "ambient-caps", "bounding-set")),
)


def able(arch: Arch, accel: Accel, hardware: Hardware) -> bool:
    """True if this process can compile for such a guest, and it takes the guest longer.

    Not for one that counts instructions: its clock does not wait for the host.
    """
    return arch == native() and not accel.kvm and not hardware.icount and os.geteuid() == 0


def serve(port: socket.socket, image: Path) -> None:
    """Answer the guest's requests, with an empty line if it does not compile, until the VM ends.

    image: the guest's root image. Closes the port: then the guest compiles by itself.
    """
    with port, suppress(OSError, ValueError, CowtraceError), files.scratch() as folder:
        for number, digest, defines in _requests(port):
            port.sendall(number.encode() + b" " + _compiled(image, folder, digest, defines) + b"\n")


def _requests(port: socket.socket) -> Iterator[tuple[str, str, dict[str, int]]]:
    """Each request: its number, the source's digest, the macros to define."""
    begun = b""
    while len(begun) <= _MOST_BYTES:
        if not (piece := port.recv(_MOST_BYTES)):
            return
        *lines, begun = (begun + piece).split(b"\n")
        for line in lines:
            with suppress(ValueError, LookupError, TypeError, RecursionError):
                number, digest, flags = operator.itemgetter(*_FIELDS)(json.loads(line))
                if _NUMBER.fullmatch(number):
                    yield number, str(digest), _defines([str(flag) for flag in flags])
            # Else it is what a process that was killed has left of its request.


def _defines(flags: list[str]) -> dict[str, int]:
    """Empty if one is not to be defined: then the digest differs."""
    found = [_FLAG.fullmatch(flag) for flag in flags]
    defines = {each[1]: int(each[2]) for each in found if each}
    large = any(defines.get(name, 0) > most for name, most in _MOST.items())
    return defines if None not in found and not large else {}


def _compiled(image: Path, folder: str, digest: str, defines: Mapping[str, int]) -> bytes:
    """The bytecode as one line; empty if it could not be compiled."""
    from cowtrace.tracer import compiler  # most runs compile nothing

    text = compiler.bpf_text(bpf_dir(), defines)
    if not defines or compiler.digest(text) != digest:
        return b""
    flags = compiler.flags_of(defines)
    inside = child.command(compiler.__name__, *flags, root="/mnt", interpreter="/usr/bin/python3")
    command = [
        *("unshare", *_NAMESPACES, "sh", "-c", _SCRIPT, "cowtrace"),
        *(str(image), folder, str(child.ROOT), *_NOBODY, *inside),
    ]
    try:
        ended = subprocess.run(
            host_programs.tied(command),
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            env=compiler.environment(Path("/mnt", bpf_dir().relative_to(child.ROOT))),
            timeout=_LIMIT_SECONDS,
            start_new_session=True,  # Ctrl-C is for the command
        )
    except subprocess.TimeoutExpired:
        return b""
    return ended.stdout if ended.returncode == 0 and b"\n" not in ended.stdout else b""
