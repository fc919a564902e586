"""Boots a kernel and runs one command in it: output streamed, exit code back, always an end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cowtrace.errors import EXIT_NO_VM, CowtraceError
from cowtrace.vm import build, cache, programs, qemu, tree
from cowtrace.vm.accel import Accel
from cowtrace.vm.definition import Definition
from cowtrace.vm.root import IMAGE
from cowtrace.vm.session import BOOT_SECONDS, Session

_CONSOLE_LINES = 8  # of a kernel that stopped, shown


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a command."""

    timeout_seconds: float | None = None  # from QEMU's start, the boot included
    memory_mib: int = 2048
    cpus: int = 2


def run(
    definition: Definition,
    kernel: str,
    command: Sequence[str],
    accel: Accel,
    options: Options,
    on_ready: Callable[[], None] = lambda: None,
) -> int:
    """Run the command in the VM, on this process's own stdout and stderr; returns its exit code.

    The images must be built. Where stdin, stdout and stderr are a terminal, the command has one
    too; else its stdin is empty. SIGINT, SIGTERM and SIGHUP are passed on to the command; a
    second one ends the VM. EXIT_TIMEOUT when the time is over. Raises CowtraceError when the
    kernel does not boot, or stops before the command ends.
    """
    root = build.root_artifact(definition.userspace).place
    place = build.kernel_artifact(definition.kernel(kernel)).place
    program = programs.find("qemu-system-x86_64")
    cache.used(root)
    cache.used(place)
    terminal = all(os.isatty(number) for number in (0, 1, 2))
    with tempfile.TemporaryDirectory(prefix="cowtrace-vm-") as scratch, _sockets(terminal) as ends:
        disk, console = Path(scratch, "disk.tar"), Path(scratch, "console.log")
        size = os.get_terminal_size(1) if os.isatty(1) else None
        env = tree.environment(kernel, os.environ, size)
        tree.pack(disk, command, env, size if terminal else None)
        console.touch()
        ours, theirs = ends
        machine = qemu.Machine(
            accel=accel,
            kernel=place,
            root=root / IMAGE,
            disk=disk,
            console=console,
            ports=tuple(end.fileno() for end in theirs),
            memory_mib=options.memory_mib,
            cpus=options.cpus,
        )
        process = subprocess.Popen(
            programs.tied(qemu.command_line(program, machine)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=machine.ports,
            start_new_session=True,  # Ctrl-C is for the command, not for QEMU
        )
        for end in theirs:
            end.close()
        control, *outputs = ours
        session = Session(
            process,
            control,
            dict(enumerate(outputs, start=1)),
            terminal=terminal,
            timeout_seconds=options.timeout_seconds,
            on_ready=on_ready,
        )
        try:
            code = session.relay()
        except BrokenPipeError:  # whoever read our output has gone
            code = 128 + signal.SIGPIPE
        finally:
            process.kill()
            said = process.communicate()[0].decode(errors="replace")
        if code is None:
            raise _stopped(kernel, console, said.strip(), session.ready, accel)
        return code


@contextlib.contextmanager
def _sockets(terminal: bool) -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    """Our ends and QEMU's of: control, stdout and, without a terminal, stderr."""
    pairs = [socket.socketpair() for _ in range(2 if terminal else 3)]
    try:
        yield [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
    finally:
        for pair in pairs:
            for end in pair:
                end.close()


def _stopped(kernel: str, console: Path, said: str, ready: bool, accel: Accel) -> CowtraceError:
    """Why a VM ended without an exit code; the console's last lines go to stderr before it."""
    lines = console.read_text(errors="replace").splitlines()
    kept = cache.folder() / f"console-{kernel}.log"
    with contextlib.suppress(OSError):
        shutil.copyfile(console, kept)
    for line in lines[-_CONSOLE_LINES:]:
        printable = "".join(char if char.isprintable() else "?" for char in line)
        print(f"  {kernel}| {printable}", file=sys.stderr)
    hint = f"its whole console is in {kept}"
    if said and not lines:
        message = f"QEMU cannot run kernel {kernel}: {said.splitlines()[-1]}"
        hint = "look at --memory and --cpus, or set COWTRACE_ACCEL=tcg"
    elif panic := next((line for line in lines if "Kernel panic" in line), None):
        message = f"kernel {kernel} stopped: {re.sub(r'^.*?Kernel panic', 'Kernel panic', panic)}"
    elif ready:
        message = f"kernel {kernel} stopped before the command ended"
    else:
        message = f"kernel {kernel} did not come up in {BOOT_SECONDS} s on {accel.name}"
        if accel.kvm:
            hint = "set COWTRACE_ACCEL=tcg for software emulation"
    return CowtraceError(message, hint=hint, exit_code=EXIT_NO_VM)
