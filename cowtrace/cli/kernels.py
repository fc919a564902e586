"""Options and steps of the commands that boot a kernel: one by name, or one of the user's own."""

from __future__ import annotations

import functools
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from cowtrace.cli.options import notice
from cowtrace.terminal.screen import spinner
from cowtrace.vm import (
    build,
    definition,
    image_store,
    kconfig,
    kernel_image,
    make,
    own_build,
    own_kernel,
    progress,
    qemu,
    run,
)
from cowtrace.vm.bootable import Bootable, Hardware, built
from cowtrace.vm.busybox import PROGRAM
from cowtrace.vm.definition import Definition

Command = TypeVar("Command", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the user chooses of the VM and of a kernel of their own."""

    modules: Path | None = None
    btf: Path | None = None
    hardware: Hardware = field(default_factory=Hardware)
    timeout_seconds: float | None = None

    def arguments(self) -> tuple[str, ...]:
        """The options of `cowtrace vm run` for the same machine."""
        chosen = {
            "--modules": self.modules,
            "--btf": self.btf,
            "--append": self.hardware.append,
            "--cpu": self.hardware.cpu,
            "--memory": self.hardware.memory_mib,
            "--cpus": self.hardware.cpus,
        }
        return tuple(f"{name}={value}" for name, value in chosen.items() if value)


DEFAULT = Machine()


def machine_options(command: Command) -> Command:
    """Options of the VM, and of a kernel that a path names; the command gets `machine`."""

    @functools.wraps(command)
    def on_machine(
        *args: Any,
        modules: Path | None,
        btf: Path | None,
        append: str,
        cpu: str,
        memory: int,
        cpus: int,
        **kwargs: Any,
    ) -> Any:
        machine = Machine(modules, btf, Hardware(memory, cpus, cpu, append))
        return command(*args, machine=machine, **kwargs)

    options = (
        click.option("--modules", type=_PATH, metavar="FOLDER",
                     help="Take the modules of a kernel PATH from here."),
        click.option("--btf", type=_PATH, metavar="FILE",
                     help="Give a kernel PATH that shows no type information this BTF."),
        click.option("--append", default="", metavar="WORDS", show_default=False,
                     help="Add these parameters to the kernel's command line."),
        click.option("--cpu", default="", metavar="MODEL", show_default=False,
                     help="Give the VM this processor: QEMU's -cpu."),
        click.option("--memory", type=click.IntRange(min=256), default=2048, metavar="MIB",
                     show_default=True, help="Give the VM this much memory."),
        click.option("--cpus", type=click.IntRange(min=1), default=2, metavar="N",
                     show_default=True, help="Give the VM N CPUs."),
    )  # fmt: skip
    for option in reversed(options):
        on_machine = option(on_machine)
    return on_machine  # type: ignore[return-value]


def is_own(known: Definition, kernel: str) -> bool:
    """True if this is a path. Raises CowtraceError for what is neither a path nor a known name."""
    if kernel in (item.name for item in known.kernels):
        return False
    if own_kernel.is_path(kernel):
        return True
    known.kernel(kernel)
    return False


def build_missing(known: Definition, names: Sequence[str], *, force: bool = False) -> None:
    """Build what these kernels of the definition need and lack; show the progress on stderr."""
    _build(known, build.missing(known, names, force=force), force=force)


def bootable(known: Definition, kernel: str, machine: Machine) -> Bootable:
    """A kernel, by name or path, with all that it needs to boot. Raises CowtraceError."""
    if is_own(known, kernel):
        return of_prepared(known, prepare(known, kernel, machine))
    if build.missing(known, [kernel]):
        click.echo(f"cowtrace: kernel {kernel} is not built yet: building it", err=True)
        build_missing(known, [kernel])
    return built(known, kernel)


def run_in_vm(kernel: str, command: Sequence[str], machine: Machine = DEFAULT) -> int:
    """Boot a kernel, by name or path, and run a command in it; returns its exit code."""
    booting = bootable(definition.load(), kernel, machine)
    hardware = machine.hardware
    chosen = qemu.choose_accel(guest=booting.arch.machine)
    if hardware.icount:
        chosen = qemu.Accel(False, "--icount")
    # Elsewhere than on a terminal, stderr holds exactly the bytes that the command writes.
    with spinner(f"booting {booting.name} in QEMU, {chosen}") as status:
        booted = status.stop if status else lambda: None
        return run.run(
            booting, command, chosen, booted, hardware, timeout_seconds=machine.timeout_seconds
        )


def prepare(known: Definition, path: str, machine: Machine) -> own_build.Prepared:
    """Make the initrd of a kernel that a path names, and what else it needs."""
    parts = own_kernel.find(Path(path), machine.modules, machine.btf)
    arch = kernel_image.read(parts.image).arch
    busybox, image = build.base(known, arch.debian)
    _build(known, [one for one in (busybox, image) if not one.manifest])
    return own_build.prepare(known, parts, busybox.place / PROGRAM, notice)


def of_prepared(known: Definition, own: own_build.Prepared) -> Bootable:
    _, image = build.base(known, own.arch.debian)
    return Bootable(own.name, own.place, image.place, own.arch, own.arch.cpu, own.btf, own=True)


def make_tree(path: str, options: str) -> None:
    """Build a tree by its own make, and report how long it took; an image is what it is.

    Raises CowtraceError if it does not build.
    """
    tree = Path(path).resolve()
    if not tree.is_dir():
        return
    log = image_store.folder() / f"make-{tree.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    notice(f"kernel {tree.name}: make (its output: {log})")
    start = time.monotonic()
    make.build(tree, shlex.split(options), log, lambda line: None)
    notice(f"kernel {tree.name}: built, {time.monotonic() - start:.0f} s")


def notice_lacking(own: own_build.Prepared) -> None:
    """Report the options that cost a plan, or checks."""
    if own.config is None:
        notice(
            f"kernel {own.name}: its configuration is not known (no CONFIG_IKCONFIG, no config "
            "beside it)"
        )
    by_section: dict[str, list[kconfig.Option]] = {}
    for option in own.lacking:
        by_section.setdefault(option.section, []).append(option)
    for section, options in by_section.items():
        words = kconfig.lines_to_add(options)
        notice(f"kernel {own.name} lacks, for {section} ({options[0].what}): {words}")
    if own.btf:
        notice(f"kernel {own.name}: type information comes from a file: no fentry plan")


def _build(known: Definition, artifacts: Sequence[build.Artifact], *, force: bool = False) -> None:
    with progress.shown(len(artifacts)) as watcher:
        build.build(known, artifacts, watcher, force=force)
