"""A Machine in, QEMU's command line out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cowtrace.vm.accel import Accel

# kptr_restrict and task_delayacct are set by the guest's own files, as for Vagrant.
APPEND = "console=ttyS0 quiet panic=-1 mitigations=off"


@dataclass(frozen=True, slots=True)
class Machine:
    """One boot."""

    accel: Accel
    kernel: Path  # folder with vmlinuz and initrd
    root: Path  # ext4 image: what the guest writes to it is thrown away
    disk: Path  # raw second disk: tree.pack
    console: Path  # the kernel's messages go here
    # Sockets that QEMU inherits, the other ends here: control, stdout, stderr; or control and
    # one terminal for all of the command's streams.
    ports: tuple[int, ...]
    memory_mib: int = 2048
    cpus: int = 2


def command_line(qemu: str, machine: Machine) -> list[str]:
    """The arguments to start the machine. Its ports' numbers are those in guest/run."""
    accel = ("kvm", "host") if machine.accel.kvm else ("tcg,thread=multi", "max")
    argv = [
        *(qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-accel", accel[0], "-cpu", accel[1]),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory_mib}M"),
        *("-kernel", str(machine.kernel / "vmlinuz"), "-initrd", str(machine.kernel / "initrd")),
        *("-append", f"{APPEND} cowtrace.run"),
        *("-drive", f"file={_escaped(machine.root)},if=virtio,format=raw,cache=unsafe,snapshot=on"),
        *("-drive", f"file={_escaped(machine.disk)},if=virtio,format=raw,readonly=on"),
        *("-chardev", f"file,id=console,path={_escaped(machine.console)}"),
        *("-serial", "chardev:console"),
        *("-device", "virtio-serial-pci"),
    ]
    names = ("control", "stdout", "stderr") if len(machine.ports) == 3 else ("control", "terminal")
    for number, (name, descriptor) in enumerate(zip(names, machine.ports, strict=True), start=1):
        device = "virtconsole" if name == "terminal" else "virtserialport"
        argv += ["-chardev", f"socket,id={name},fd={descriptor}"]
        argv += ["-device", f"{device},nr={number},chardev={name},name=cowtrace.{name}"]
    return argv


def _escaped(path: Path) -> str:
    """A path in a QEMU option: a comma would end it."""
    return str(path).replace(",", ",,")
