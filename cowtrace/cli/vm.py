"""`cowtrace vm`: build the test VM's images, list them, run a command on another kernel."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from cowtrace.cli.kernels import (
    Machine,
    build_missing,
    is_own,
    machine_options,
    prepare,
    run_in_vm,
)
from cowtrace.cli.options import Form, form_options, lines_of, notice
from cowtrace.errors import EXIT_MISMATCH
from cowtrace.terminal.screen import show
from cowtrace.vm import (
    box,
    build,
    definition,
    guest_arch,
    kconfig,
    own_config,
    qemu,
)


@click.group()
def vm() -> None:
    """Build and run the test VMs, one for each kernel.

    Images are kept in $XDG_CACHE_HOME/cowtrace/vm, or ~/.cache/cowtrace/vm; Vagrant boxes in
    $COWTRACE_BOXES, or /var/cache/cowtrace. Packages come from this machine's own Debian mirror,
    or from the one in COWTRACE_MIRROR. QEMU uses KVM where that works, else software emulation;
    COWTRACE_ACCEL=kvm or tcg overrides.
    """


@vm.command("build", epilog="\b\nExample:\n  sudo cowtrace vm build --box 6.12")
@click.argument("kernels", nargs=-1, metavar="[KERNEL]...")
@click.option("--force", is_flag=True, help="Build again what is already built.")
@click.option("--box", "with_box", is_flag=True,
              help="Also build their Vagrant box, in /var/cache/cowtrace.")  # fmt: skip
def build_command(kernels: Sequence[str], force: bool, with_box: bool) -> None:
    """Build what kernels need to run; without KERNEL, the usual ones.

    The kernels: cowtrace vm list.
    """
    known = definition.load()
    names = kernels or known.usual
    if with_box:
        box.require(known, names)
    own = [name for name in dict.fromkeys(names) if is_own(known, name)]
    build_missing(known, [name for name in names if name not in own], force=force)
    for name in own:
        prepare(known, name, Machine())
    if with_box:
        box.publish(known, names, notice, force=force)
    for name in dict.fromkeys(names):
        click.echo(f"kernel {name} is built: cowtrace vm run {name} -- uname -r")
    if with_box:
        click.echo(f"its box is made: cd vagrant && COWTRACE_KERNEL={names[-1]} vagrant up")


@vm.command("box", epilog="\b\nExample:\n  cowtrace vm box 6.12")
@click.argument("kernel")
def box_command(kernel: str) -> None:
    """Print, as JSON, what vagrant/Vagrantfile needs to boot a box."""
    known = definition.load()
    found = box.find(known, kernel)
    chosen = qemu.choose_accel()
    row: dict[str, object] = {key: str(value) for key, value in dataclasses.asdict(found).items()}
    row |= {"cmdline": box.CMDLINE, "kvm": chosen.kvm, "accel": str(chosen)}
    click.echo(json.dumps(row | {"cpu": known.kernel(kernel).emulated_cpu}))


@vm.command("list", epilog="\b\nExample:\n  cowtrace vm list")
@form_options
def list_command(form: Form) -> None:
    """List the kernels and what is built, with exact versions."""
    known = definition.load()
    users = dict.fromkeys(map(known.userspace_of, known.kernels))
    roots = [(_root(user), build.root_artifact(user)) for user in users]
    named = [(kernel.name, build.kernel_artifact(kernel)) for kernel in known.kernels]
    if lines := lines_of(form):
        for name, artifact in [*named, *roots]:
            made = artifact.manifest
            lines(
                {
                    "name": name,
                    "suite": artifact.what.suite,
                    "built": made is not None,
                    "folder": str(artifact.place),
                    "bytes": artifact.bytes,
                    "manifest": dataclasses.asdict(made) if made else None,
                }
            )
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("KERNEL", "SUITE", "VERSION", "BUILT", "MIB"):
        table.add_column(heading, justify="right" if heading == "MIB" else "left", no_wrap=True)
    for name, artifact in [*named, *((f"({name})", root) for name, root in roots)]:
        table.add_row(name, artifact.what.suite, *_built(artifact))
    show(table)
    show(Text(f"QEMU uses {qemu.choose_accel()}."))


def _root(user: definition.Userspace) -> str:
    return "root" if user.arch == definition.AMD64 else f"root-{user.arch}"


def _built(artifact: build.Artifact) -> tuple[str, str, str]:
    """Version, day and size of what is built, as cells."""
    made = artifact.manifest
    if not made:
        return "-", "no", "-"
    kernel = isinstance(artifact.what, definition.Kernel)
    version = made.version if kernel else f"{len(made.packages)} packages"
    return version, made.built[:10], f"{artifact.bytes / (1 << 20):.0f}"


@vm.command("config", epilog="\b\nExample:\n  cowtrace vm config >vm.config")
@click.argument("kernel", required=False, metavar="[PATH]")
@click.option("--arch", type=click.Choice(("amd64", "arm64")), default="amd64",
              show_default=True, help="Print the options of this architecture.")  # fmt: skip
def config_command(kernel: str | None, arch: str) -> None:
    """Print the options that a kernel needs to run in the VM, each with its reason.

    In a kernel tree: cowtrace vm config >vm.config, scripts/kconfig/merge_config.sh .config
    vm.config, make. With PATH, an image or a tree, print only the options that it lacks; exit
    code 4 if there are some.
    """
    if kernel is None:
        click.echo("\n".join(kconfig.fragment(guest_arch.of(arch))))
        return
    lacking = own_config.lacking(Path(kernel))
    for option in lacking:
        click.echo(option.line)
    if lacking:
        click.get_current_context().exit(EXIT_MISMATCH)


@vm.command("run", epilog="\b\nExample:\n  sudo cowtrace vm run 6.12 -- cowtrace demo")
@click.argument("kernel")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="End the VM after this time, boot included, with exit code 124.")  # fmt: skip
@machine_options
@click.option("--icount", is_flag=True,
              help="Make the clock count instructions, 2 ns each; emulated, one CPU.")  # fmt: skip
def run_command(
    kernel: str, command: Sequence[str], timeout: float | None, machine: Machine, icount: bool
) -> None:
    """Run a command on that kernel, as root, in a copy of this project.

    KERNEL is one of `cowtrace vm list`, or a path: a bzImage, vmlinuz or arm64 Image, or a tree
    in which one was built. `cowtrace vm config` prints the options that such a kernel needs.

    Passes on the command's output and exit code. What it writes to the VM's disk is lost. On a
    terminal, the command has a terminal, too: Ctrl-] ends the VM, Ctrl-C goes to the command.
    Elsewhere its stdin is empty.
    """
    if icount:
        hardware = dataclasses.replace(machine.hardware, cpus=1, icount=True)
        machine = dataclasses.replace(machine, hardware=hardware)
    machine = dataclasses.replace(machine, timeout_seconds=timeout)
    click.get_current_context().exit(run_in_vm(kernel, command, machine))
