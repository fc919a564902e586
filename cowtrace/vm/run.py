"""Boot a kernel and run one command in it: stream its output, return its exit code."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread

from cowtrace import files
from cowtrace.errors import EXIT_NO_VM, CowtraceError
from cowtrace.text import printable
from cowtrace.vm import (
    boot_log,
    compiler,
    host_programs,
    image_store,
    programs_disk,
    qemu,
    saved,
    tree,
)
from cowtrace.vm.bootable import Bootable, Hardware
from cowtrace.vm.relay import BOOT_SECONDS, Session
from cowtrace.vm.root import IMAGE

_CONSOLE_LINES = 8  # shown when the kernel stopped


def run(
    kernel: Bootable,
    command: Sequence[str],
    accel: qemu.Accel,
    on_ready: Callable[[], None],
    hardware: Hardware,
    *,
    timeout_seconds: float | None,
) -> int:
    """Run the command in the VM, on this process's own stdout and stderr; returns its exit code.

    The images must be built. If stdin, stdout and stderr are a terminal, the command has one
    too; otherwise its stdin is empty. The command receives the first SIGINT, SIGTERM or SIGHUP; a
    second one ends the VM. Returns EXIT_TIMEOUT after the time limit, which includes the boot.
    Raises CowtraceError if the kernel does not boot, or stops before the command ends.
    """
    program = host_programs.find(kernel.arch.qemu)
    image_store.used(kernel.root)
    image_store.used(kernel.kernel)
    terminal = all(os.isatty(number) for number in (0, 1, 2))
    size = os.get_terminal_size(1) if os.isatty(1) else None
    with files.scratch() as scratch:
        disk, console = Path(scratch, "disk.tar"), Path(scratch, "console.log")
        compiled = Path(scratch, "programs.tar")
        env = tree.environment(kernel.name, os.environ, size)
        tree.pack(disk, command, env, size if terminal else None, kernel.btf)
        programs_disk.load(kernel.kernel, compiled)
        console.touch()
        machine = qemu.Machine(
            accel=accel,
            kernel=kernel.kernel,
            root=kernel.root / IMAGE,
            disk=disk,
            programs=compiled,
            console=console,
            memory_mib=hardware.memory_mib,
            cpus=hardware.cpus,
            icount=hardware.icount,
            arch=kernel.arch,
            cpu=hardware.cpu or ("host" if accel.kvm else kernel.cpu),
            append=hardware.append,
            compiles=compiler.able(kernel.arch, accel, hardware),
        )
        state = None if kernel.own else saved.state_path(program, machine)
        can_restore = state is not None and state.exists()
        boot = partial(_boot, program, machine, state, terminal, timeout_seconds, on_ready)
        ended = boot()
        if state and can_restore and not ended.ready and ended.code is None:
            state.unlink(missing_ok=True)  # QEMU cannot restore it: boot
            ended = boot()
        if ended.code is None:
            raise stopped(kernel.name, console, ended, accel)
        if ended.finished:
            programs_disk.save(compiled, kernel.kernel)
        return ended.code


@dataclass(frozen=True, slots=True)
class Ended:
    """How a VM ended."""

    code: int | None  # the command's; None when the VM ended without one
    ready: bool  # whether the command had been started
    said: str  # QEMU's own output
    finished: bool = False  # the guest reported the code; else a time limit, or a signal's second


def _boot(
    program: str,
    machine: qemu.Machine,
    state: Path | None,
    terminal: bool,
    timeout_seconds: float | None,
    on_ready: Callable[[], None],
) -> Ended:
    """Run QEMU once: restore the saved state, or boot and save the state."""
    with contextlib.ExitStack() as stack:
        pairs = {name: socket.socketpair() for name in qemu.SOCKETS}
        ours = {name: stack.enter_context(pair[0]) for name, pair in pairs.items()}
        inherited = [pair[1].fileno() for pair in pairs.values()]
        machine = replace(machine, sockets=tuple(inherited))
        restored = state is not None and state.exists()
        if state and restored:
            descriptor = stack.enter_context(state.open("rb")).fileno()
            machine = replace(machine, state_fd=descriptor)
            inherited.append(descriptor)
        process = subprocess.Popen(
            host_programs.tied(qemu.command_line(program, machine)),
            env=host_programs.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=inherited,
            start_new_session=True,  # Ctrl-C is for the command, not for QEMU
        )
        for _, theirs in pairs.values():
            theirs.close()

        def on_booted() -> None:
            if state and not restored:
                saved.save(ours["monitor"], state)

        session = Session(process, ours, terminal, timeout_seconds, on_booted, on_ready)
        compiling = Thread(
            target=compiler.serve, args=(ours["compiler"], machine.root), daemon=True
        )
        if machine.compiles:
            compiling.start()
        try:
            code = session.relay(started=restored)
        except BrokenPipeError:  # the reader closed our output
            code = 128 + signal.SIGPIPE
        finally:
            process.kill()
            said = process.communicate()[0].decode(errors="replace")
            if machine.compiles:
                compiling.join()
        return Ended(code, session.ready, said.strip(), session.finished)


def stopped(kernel: str, console: Path, ended: Ended, accel: qemu.Accel) -> CowtraceError:
    """Why a VM ended without an exit code. Prints the console's last lines to stderr."""
    lines = [printable(line) for line in console.read_text(errors="replace").splitlines()]
    copy = image_store.folder() / f"console-{kernel}.log"
    with contextlib.suppress(OSError):
        shutil.copyfile(console, copy)
    for line in lines[-_CONSOLE_LINES:]:
        print(f"  {kernel}| {line}", file=sys.stderr)
    hint = f"its whole console is in {copy}"
    if ended.said and not lines:
        message = f"QEMU cannot run kernel {kernel}: {ended.said.splitlines()[-1]}"
        hint = "look at --memory and --cpus" + (", or set COWTRACE_ACCEL=tcg" if accel.kvm else "")
    elif lacking := boot_log.lacking(lines):
        message = f"kernel {kernel} does not boot in the VM: {lacking.sign}"
        hint = f"its .config needs: {', '.join(f'{name}=y' for name in lacking.options)}; {hint}"
    elif panic := next((line for line in lines if "Kernel panic" in line), None):
        message = f"kernel {kernel} stopped: {re.sub(r'^.*?Kernel panic', 'Kernel panic', panic)}"
    elif ended.ready:
        message = f"kernel {kernel} stopped before the command ended"
    else:
        message = f"kernel {kernel} did not come up in {BOOT_SECONDS} s on {accel.name}"
        if accel.kvm:
            hint = "set COWTRACE_ACCEL=tcg for software emulation"
    return CowtraceError(message, hint=hint, exit_code=EXIT_NO_VM)
