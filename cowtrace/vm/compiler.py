"""Compile the guest's BPF programs on the host: the host's end of cowtrace/tracer/host_compiler.py.

With the guest's own BCC, so to the same bytes: in the root image, which is mounted read-only for
one compilation. The compiler runs as nobody; CAP_BPF is all that it may do, for BCC makes the maps.
"""

from __future__ import annotations

import json
import operator
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from cowtrace import child, files
from cowtrace.shipped import bpf_dir
from cowtrace.vm import host_programs
from cowtrace.vm.qemu import Machine

_MODULE = "cowtrace.tracer.compiler"
_MOST_BYTES = 1 << 20  # of a request
_LIMIT_SECONDS = 50
_FIELDS = "number", "flags", "text"
_FLAG = re.compile(r"-D\w+=-?\w+")
_NUMBER = re.compile(r"[0-9a-f]{16}")
# BCC looks there which of the two helpers the kernel has: any guest's, since 5.5, both.
_SCRIPT = """set -e
mount -o loop,ro,noload "$1" "$2"
mount --bind -o ro "$3" "$2/mnt"
mount -t proc proc "$2/proc"
mount -t tmpfs symbols "$2/tmp"
printf 'ffffffff81000000 T bpf_probe_read_%s\\n' kernel user >"$2/tmp/kallsyms"
mount --bind "$2/tmp/kallsyms" "$2/proc/kallsyms"
root=$2
shift 3
ulimit -v 4194304  # KiB
exec chroot "$root" "$@"
"""
_NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child")
_NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
    *(f"--{which}=-all,+bpf" for which in ("inh-caps", "ambient-caps", "bounding-set")),
)


def serve(port: socket.socket, machine: Machine) -> None:
    """Answer the guest's requests until the VM ends.

    With an empty line if this process cannot compile: then the guest does it by itself. And with
    KVM, where it takes the guest no longer.
    """
    same = machine.arch.machine == os.uname().machine
    able = same and not machine.accel.kvm and os.geteuid() == 0
    with files.scratch() as folder, suppress(OSError):  # the VM has ended
        for number, flags, text in _requests(port):
            allowed = all(_FLAG.fullmatch(flag) for flag in flags)
            compiled = _compiled(machine.root, folder, flags, text) if able and allowed else b""
            port.sendall(f"{number} ".encode() + compiled + b"\n")


def _requests(port: socket.socket) -> Iterator[tuple[str, list[str], str]]:
    """The number, the flags and the source of each. The guest is not trusted."""
    begun = b""
    while len(begun) <= _MOST_BYTES:
        if not (piece := port.recv(1 << 16)):
            return
        *lines, begun = (begun + piece).split(b"\n")
        for line in lines:
            with suppress(ValueError, LookupError, TypeError, RecursionError):
                number, flags, text = operator.itemgetter(*_FIELDS)(json.loads(line))
                if _NUMBER.fullmatch(number):
                    yield number, [str(flag) for flag in flags], str(text)
            # Else it is what a process that was killed has left of its request.


def _compiled(image: Path, folder: str, flags: Sequence[str], text: str) -> bytes:
    """The line to answer; empty when it was not compiled, whatever the reason."""
    headers = Path("/mnt", bpf_dir().relative_to(child.ROOT), "bcc-headers")
    inside = child.command(_MODULE, *flags, root="/mnt", interpreter="/usr/bin/python3")
    command = [
        *("unshare", *_NAMESPACES, "sh", "-c", _SCRIPT, "cowtrace"),
        *(str(image), folder, str(child.ROOT), *_NOBODY, *inside),
    ]
    try:
        ended = subprocess.run(
            host_programs.tied(command),
            input=text.encode(),
            capture_output=True,
            check=False,
            env={"BCC_KERNEL_SOURCE": str(headers), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            timeout=_LIMIT_SECONDS,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return b""
    return ended.stdout if ended.returncode == 0 and b"\n" not in ended.stdout else b""
